// Gradients of a real model beside those of Transformers and PEFT, in the folder that INOCULUM_REAL
// names (tests/real/smollm2.py).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "core/model/checkpoint.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

// Of the loss on the file's text, of those parameters that it has gradients of.
void check_gradients(const Transformer& model, std::map<std::string, Tensor>& parameters,
                     const fs::path& file) {
  std::map<std::string, Tensor> want;
  for (const NamedTensor& each : load_tensors(file)) want[each.name] = each.tensor;
  std::vector<std::string> names;
  for (const auto& [key, tensor] : want)
    if (key.starts_with("grad.")) names.push_back(key.substr(5));
  for (const std::string& name : names) {
    INFO(name);
    REQUIRE(parameters.contains(name));
    parameters[name].set_requires_grad(true);
  }
  const Tensor& labels = want.at("labels");  // [time], of the next token; −100: not supervised
  const Tensor chosen = (labels >= 0).nonzero().squeeze(1);
  const Tensor hidden = model.hidden(want.at("input_ids"))[0].index_select(0, chosen);
  const auto count = static_cast<double>(chosen.size(0));
  const Tensor loss = model.loss_sum(hidden, labels.index_select(0, chosen)) / count;
  loss.backward();
  CHECK(loss.item<double>() == Approx(want.at("loss").item<double>()).epsilon(1e-5));
  // What float32 makes of each gradient in Transformers is the measure: another order of summing
  // may round as much again, or some times as much where it was lucky.
  double worst = 0, theirs = 0;
  for (const std::string& name : names) {
    INFO(name);
    const Tensor& right = want.at("grad." + name);
    const Tensor& ours = parameters[name].grad();
    REQUIRE(ours.defined());
    const double scale = right.abs().max().item<double>();
    REQUIRE(scale > 0);
    const double off = (ours - right).abs().max().item<double>() / scale;
    const double rounding = want.at("rounding." + name).item<double>();
    CHECK(off < std::max(1e-5, 5 * rounding));
    worst = std::max(worst, off), theirs = std::max(theirs, rounding);
    parameters[name].mutable_grad().reset();
    parameters[name].set_requires_grad(false);
  }
  std::printf(
      "%s: %zu gradients, off by %.1e of their largest entry; Transformers in float32 by %.1e\n",
      file.stem().c_str(), names.size(), worst, theirs);
}

TEST_CASE("gradients of a real model and of its adapter", "[real]") {
  const char* folder = std::getenv("INOCULUM_REAL");
  if (!folder) {
    WARN("SKIPPED: INOCULUM_REAL names no folder of tests/real/smollm2.py");
    return;
  }
  Transformer model = load_model(fs::path(folder) / "model", at::kFloat, at::kCPU);
  std::map<std::string, Tensor> parameters;
  model.for_each_parameter(
      [&](const std::string& name, Tensor& tensor) { parameters[name] = tensor; });
  check_gradients(model, parameters, fs::path(folder) / "full.safetensors");
  load_adapter(fs::path(folder) / "adapter", model);
  parameters.clear();
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    parameters[path + ".lora_A.weight"] = linear.lora->a;
    parameters[path + ".lora_B.weight"] = linear.lora->b;
  });
  CHECK(parameters.size() == 420);
  check_gradients(model, parameters, fs::path(folder) / "adapter.safetensors");
}

}  // namespace
}  // namespace inoculum
