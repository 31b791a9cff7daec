#include "core/model/recompute.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

namespace inoculum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Part : torch::CustomClassHolder {
  explicit Part(std::function<Tensor(const Tensor&)> f) : call(std::move(f)) {}
  std::function<Tensor(const Tensor&)> call;
};

struct Recomputed : torch::autograd::Function<Recomputed> {
  // `trained` has no other use than to require a gradient: x may not, where leaves inside do.
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& trained,
                        const c10::intrusive_ptr<Part>& part) {
    static_cast<void>(trained);
    context->save_for_backward({x});
    context->saved_data["part"] = at::IValue::make_capsule(part);
    context->saved_data["of_x"] = x.requires_grad();
    // Recorded here too and let go: with nothing to record, products take other ways (linear.cpp),
    // and backward would compute other bits.
    const c10::AutoGradMode recording(true);
    return part->call(x.detach().set_requires_grad(x.requires_grad())).detach();
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const bool of_x = context->saved_data["of_x"].toBool();
    const Tensor x = context->get_saved_variables()[0].detach().set_requires_grad(of_x);
    const auto part =
        c10::static_intrusive_pointer_cast<Part>(context->saved_data["part"].toCapsule());
    Tensor y;
    {
      const c10::AutoGradMode recording(true);
      y = part->call(x);
    }
    torch::autograd::backward({y}, {gradients[0]});  // leaves take theirs here
    return {of_x ? x.grad() : Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor recomputed(std::function<Tensor(const Tensor&)> part, const Tensor& x) {
  const Tensor trained = at::zeros({}, x.options().requires_grad(false)).set_requires_grad(true);
  return Recomputed::apply(x, trained, c10::make_intrusive<Part>(std::move(part)));
}

}  // namespace inoculum
