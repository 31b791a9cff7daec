// Against transformers, PEFT, torch's AdamW (tests/golden/make_goldens.py).
#include <ATen/ops/allclose.h>
#include <ATen/ops/roll.h>

#include <cstdlib>
#include <map>
#include <thread>

#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "tests/catch.h"
#include "tests/training/fake_device.h"
#include "training/batches.h"
#include "training/gradients.h"
#include "training/optimizer.h"
#include "training/trainer.h"

namespace inoculum {
namespace {

std::map<std::string, Tensor> expected(const std::string& name) {
  std::map<std::string, Tensor> all;
  for (NamedTensor& each : load_tensors("tests/golden/" + name + "/expected.safetensors"))
    all[each.name] = each.tensor;
  return all;
}

double relative_error(const Tensor& found, const Tensor& wanted) {
  const Tensor error = (found.detach().to(at::kCPU) - wanted).abs().max();
  return (error / wanted.abs().max().clamp_min(1e-8)).item<double>();
}

Tensor mean_loss(const Transformer& model, const Tensor& ids, const Tensor& labels) {
  return model.loss_sum(model.hidden(ids).flatten(0, 1), labels.flatten()) / (labels >= 0).sum();
}

void check_training(at::Device device) {
  for (const std::string name : {"llama_tied", "llama_grouped"}) {
    INFO(name);
    const auto want = expected(name);
    Transformer model = load_model("tests/golden/" + name, at::kFloat, device);
    const Tensor ids = want.at("input_ids").to(device), labels = want.at("labels").to(device);
    std::vector<NamedTensor> parameters;
    model.for_each_parameter([&](const std::string& key, Tensor& tensor) {
      parameters.push_back({key, tensor.set_requires_grad(true)});
    });
    CHECK(relative_error(model.logits(model.hidden(ids)).detach(), want.at("logits")) < 1e-4);
    const Tensor loss = mean_loss(model, ids, labels);
    CHECK(relative_error(loss.detach().reshape({1}), want.at("loss")) < 1e-5);
    loss.backward();
    size_t expected_gradients = 0;
    for (const auto& [key, tensor] : want) expected_gradients += key.starts_with("grad.");
    CHECK(expected_gradients == parameters.size());
    for (NamedTensor& each : parameters) {
      INFO(each.name);
      CHECK(relative_error(each.tensor.grad(), want.at("grad." + each.name)) < 1e-4);
      each.tensor.mutable_grad().reset();
    }
    Gradients gradients(model);
    Optimizer optimizer(
        gradients.parameters(),
        {.lr = 1e-2, .beta2 = 0.95, .eps = 1e-4, .weight_decay = 0.1, .max_grad_norm = 1});
    const auto supervised = (labels >= 0).sum().item<double>();
    for (int64_t step = 0; step < 3; ++step) {
      gradients.add(1, [&](const Transformer& lane, int64_t) {
        return mean_loss(lane, ids, labels) * supervised;
      });
      CHECK(optimizer.step(gradients.sums(), 1e-2, supervised).item<double>() ==
            Approx(want.at("grad_norms")[step].item<double>()).epsilon(1e-4));
    }
    for (const NamedTensor& each : parameters) {
      INFO(each.name);
      CHECK(relative_error(each.tensor.detach(), want.at("after." + each.name)) < 1e-4);
    }
  }
}

TEST_CASE("logits, loss, gradients and AdamW steps are those of transformers and torch",
          "[golden]") {
  check_training(at::kCPU);
}

// A gradient of transformers in our layout: GPT-2's matrices are [in, out], the fused rows of
// GPT-NeoX lie head by head.
Tensor in_our_layout(const TransformerConfig& c, const std::string& name, Tensor x) {
  if (c.family == "gpt2" && x.dim() == 2 && name.find(".h.") != std::string::npos &&
      name.find("lora_") == std::string::npos)
    return x.t();
  if (c.family == "gpt_neox" && name.find("query_key_value") != std::string::npos &&
      name.find("lora_A") == std::string::npos) {
    auto shape = x.sizes().vec();
    shape.insert(shape.begin() + 1, {3, c.head_dim});
    shape[0] = c.num_attention_heads;
    return x.view(shape).transpose(0, 1).reshape(x.sizes());
  }
  return x;
}

double loss_and_backward(Transformer& model, const Tensor& ids) {
  const int64_t time = ids.size(1) - 1;
  const Tensor hidden = model.hidden(ids).narrow(1, 0, time).flatten(0, 1);
  const Tensor loss = model.loss_sum(hidden, ids.narrow(1, 1, time).flatten()) / hidden.size(0);
  loss.backward();
  return loss.item<double>();
}

void check_families(at::Device device) {
  const char* many = std::getenv("INOCULUM_FAMILIES");  // a folder of tests/parity/families.py
  size_t models = 0;
  for (const auto& entry : fs::directory_iterator(many ? many : "tests/golden/families")) {
    const fs::path folder = entry.path();
    INFO(folder.string());
    ++models;
    std::map<std::string, Tensor> want;
    for (const auto& [name, tensor] : load_tensors(folder / "expected.safetensors"))
      want[name] = tensor;
    Transformer model = load_model(folder, at::kFloat, device);
    const Tensor ids = want.at("input_ids").to(device);
    // Gradients to 1e-4, or to five times what rounding makes of those of transformers in such a
    // model.
    const auto bound = [&] { return std::max(1e-4, 5 * want.at("rounding").item<double>()); };
    std::vector<NamedTensor> parameters;
    model.for_each_parameter([&](const std::string& name, Tensor& tensor) {
      parameters.push_back({name, tensor.set_requires_grad(true)});
    });
    CHECK(relative_error(model.logits(model.hidden(ids)).detach(), want.at("logits")) < 1e-4);
    CHECK(loss_and_backward(model, ids) == Approx(want.at("loss").item<double>()).epsilon(1e-5));
    size_t gradients = 0;
    for (const auto& [name, tensor] : want) gradients += name.starts_with("grad.");
    CHECK(gradients == parameters.size());
    for (NamedTensor& each : parameters) {
      INFO(each.name);
      CHECK(relative_error(each.tensor.grad(),
                           in_our_layout(model.config(), each.name, want.at("grad." + each.name))) <
            bound());
      each.tensor.mutable_grad().reset();
      each.tensor.set_requires_grad(false);
    }
    const at::NoGradGuard no_grad;
    // Texts end to end are as texts apart.
    const Tensor row = at::cat({ids[0].narrow(0, 0, 20), ids[1]}).unsqueeze(0);
    const Tensor packed = model.logits(model.hidden(row, {20, ids.size(1)}))[0];
    CHECK(relative_error(packed.narrow(0, 0, 20), want.at("logits")[0].narrow(0, 0, 20)) < 1e-4);
    CHECK(relative_error(packed.narrow(0, 20, ids.size(1)), want.at("logits")[1]) < 1e-4);
    // Greedy generation, token for token.
    const Tensor& generated = want.at("generated");
    const int64_t rows = generated.size(0), length = generated.size(1), prompt = 9;
    KeyValueCache cache(model.config(), rows, length + 1, model.options());
    Tensor text = ids.narrow(1, 0, prompt), next = text;
    while (text.size(1) < length) {
      const Tensor positions = at::arange(text.size(1) - next.size(1), text.size(1), ids.options())
                                   .expand({rows, next.size(1)})
                                   .contiguous();
      next = model.logits(model.hidden(next, positions, cache).select(1, next.size(1) - 1))
                 .argmax(-1, true);
      text = at::cat({text, next}, 1);
    }
    CHECK(at::equal(text.to(at::kCPU), generated));
    // Written and read again: the same to the last bit.
    const TemporaryFolder t;
    save_model(t.path / "again", model, at::kFloat);
    Transformer again = load_model(t.path / "again", at::kFloat, device);
    CHECK(show(again.config()) == show(model.config()));
    CHECK(at::equal(again.logits(again.hidden(ids)), model.logits(model.hidden(ids))));
    again.for_each_parameter(
        [&](const std::string& name, Tensor&) { CHECK(want.contains("grad." + name)); });

    // PEFT's adapter, its gradients, and ours written from it.
    want.clear();
    for (const auto& [name, tensor] : load_tensors(folder / "adapter.safetensors"))
      want[name] = tensor;
    const Tensor adapted_ids = want.at("input_ids").to(device);
    const LoraConfig lora = load_adapter(folder / "adapter", model);
    std::vector<NamedTensor> adapters;
    model.for_each_linear([&](const std::string& path, Linear& linear) {
      if (!linear.lora) return;
      adapters.push_back({path + ".lora_A.weight", linear.lora->a});
      adapters.push_back({path + ".lora_B.weight", linear.lora->b});
      if (linear.lora->magnitude.defined())
        adapters.push_back({path + ".lora_magnitude_vector", linear.lora->magnitude});
    });
    CHECK(adapters.size() + 3 == want.size());
    CHECK(relative_error(model.logits(model.hidden(adapted_ids)), want.at("logits")) < 1e-4);
    {
      const at::AutoGradMode with_gradients(true);
      for (NamedTensor& each : adapters) each.tensor.set_requires_grad(true);
      loss_and_backward(model, adapted_ids);
    }
    for (NamedTensor& each : adapters) {
      INFO(each.name);
      CHECK(relative_error(each.tensor.grad(),
                           in_our_layout(model.config(), each.name, want.at("grad." + each.name))) <
            bound());
      each.tensor.set_requires_grad(false);
    }
    save_adapter(t.path / "adapter", model, lora, "base");
    std::map<std::string, Tensor> ours;
    for (const auto& [name, tensor] :
         load_tensors(t.path / "adapter" / "adapter_model.safetensors"))
      ours[name] = tensor;
    for (const auto& [name, tensor] :
         load_tensors(folder / "adapter" / "adapter_model.safetensors"))
      CHECK(at::equal(ours.at(name), tensor));
    merge_lora(model);
    CHECK(relative_error(model.logits(model.hidden(adapted_ids)), want.at("logits")) < 1e-4);
  }
  CHECK(models >= 30);
}

TEST_CASE("models of every family are those of transformers, their adapters those of PEFT",
          "[golden]") {
  check_families(at::kCPU);
}

TEST_CASE("positions cost memory by the text at hand, not by the longest that is allowed",
          "[golden]") {
  const at::NoGradGuard no_grad;
  for (const std::string name : {"llama_0", "gpt_neox_0", "gemma3_0"}) {
    INFO(name);
    const fs::path folder = fs::path("tests/golden/families") / name;
    const Transformer model = load_model(folder, at::kFloat, at::kCPU);
    TransformerConfig longer = model.config();
    longer.rope_scaling = longer.rope_local_scaling =
        RopeScaling();  // which may look at the longest
    Transformer short_one(longer, Random(1, "weights"));
    longer.max_position_embeddings = int64_t{1} << 50;
    Transformer long_one(longer, Random(1, "weights"));
    const Tensor ids = at::arange(3, 36).view({1, 33});
    const Tensor alone = short_one.hidden(ids);
    CHECK(at::equal(long_one.hidden(ids), alone));
    // Several threads at once, of other lengths each, on the same model.
    std::vector<int> equal(4);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < equal.size(); ++i)
      threads.emplace_back([&, i] {
        const at::NoGradGuard guard;
        const auto length = static_cast<int64_t>(8 * i + 9);
        equal[i] = 1;
        for (int repeat = 0; repeat < 20; ++repeat) {
          const Tensor part = long_one.hidden(ids.narrow(1, 0, length));
          equal[i] &= at::allclose(part, alone.narrow(1, 0, length), 1e-4, 1e-5);
        }
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(equal == std::vector<int>(4, 1));
  }
}

void check_muon(at::Device device, double tolerance) {
  const auto want = expected("muon");
  std::vector<NamedTensor> parameters;
  const std::vector<std::string> shapes = {"layers.wide", "layers.tall"};
  for (const std::string& shape : shapes)  // by a name as Llama has it, and one as GPT-2 does
    parameters.push_back(
        {shape == "layers.wide" ? "model.layers.0.mlp.up_proj.weight" : "transformer.h.0.mlp.c_fc",
         want.at("before." + shape).to(device, at::kFloat, false, true).set_requires_grad(true)});
  Optimizer optimizer(parameters,
                      {.name = "muon", .lr = 1e-2, .weight_decay = 0.1, .max_grad_norm = 0});
  for (int64_t step = 0; step < 3; ++step) {
    std::vector<Tensor> gradients;
    for (const std::string& shape : shapes)
      gradients.push_back(want.at("gradients." + shape)[step].to(device, false, true));
    optimizer.step(gradients, 1e-2, 1);
  }
  // The iteration's type is the device's to choose.
  const std::string after = dtype_from("auto", device) == at::kBFloat16 ? "after." : "after_float.";
  for (size_t i = 0; i < shapes.size(); ++i) {
    INFO(parameters[i].name);
    CHECK(relative_error(parameters[i].tensor.detach(), want.at(after + shapes[i])) < tolerance);
  }
}

TEST_CASE("Muon's steps are those of torch.optim.Muon", "[golden]") { check_muon(at::kCPU, 1e-6); }

void check_cache(at::Device device) {
  for (const std::string name : {"llama_tied", "llama_grouped"}) {
    const auto want = expected(name);
    const at::NoGradGuard no_grad;
    const Transformer model = load_model("tests/golden/" + name, at::kFloat, device);
    const Tensor ids = want.at("input_ids").to(device);
    KeyValueCache cache(model.config(), ids.size(0), 32, model.options());
    std::vector<Tensor> parts;
    // A first part at once, then token by token.
    for (int64_t begin = 0; begin < ids.size(1);) {
      const int64_t end = begin == 0 ? 6 : begin + 1;
      const Tensor positions =
          at::arange(begin, end, ids.options()).expand({ids.size(0), end - begin}).contiguous();
      parts.push_back(
          model.logits(model.hidden(ids.slice(1, begin, end).contiguous(), positions, cache)));
      begin = end;
    }
    CHECK(relative_error(at::cat(parts, 1), want.at("logits")) < 1e-4);
  }
}

TEST_CASE("generation with a cache gives the logits of a whole pass", "[golden]") {
  check_cache(at::kCPU);
}

TEST_CASE("an adapter made by PEFT computes and learns as it does there", "[golden]") {
  const auto want = expected("adapter");
  Transformer model = load_model("tests/golden/llama_grouped", at::kFloat, at::kCPU);
  const LoraConfig lora = load_adapter("tests/golden/adapter", model);
  CHECK(lora.rank == 3);
  CHECK(lora.use_rslora);
  size_t adapters = 0;
  model.for_each_linear([&](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    ++adapters;
    linear.lora->a.set_requires_grad(true);
    linear.lora->b.set_requires_grad(true);
  });
  CHECK(adapters == 6);
  const Tensor ids = want.at("input_ids");
  CHECK(relative_error(model.logits(model.hidden(ids)).detach(), want.at("logits")) < 1e-4);
  // The reference's last label wraps round to the first token.
  mean_loss(model, ids, at::roll(ids, -1, 1)).backward();
  model.for_each_linear([&](const std::string& path, Linear& linear) {
    if (!linear.lora) return;
    INFO(path);
    CHECK(relative_error(linear.lora->a.grad(), want.at("grad." + path + ".lora_A.weight")) < 1e-4);
    CHECK(relative_error(linear.lora->b.grad(), want.at("grad." + path + ".lora_B.weight")) < 1e-4);
    linear.lora->a = linear.lora->a.detach();
    linear.lora->b = linear.lora->b.detach();
  });
  // Saved, loaded, merged: the same function.
  const TemporaryFolder t;
  save_adapter(t.path / "adapter", model, lora, "llama_grouped");
  Transformer again = load_model("tests/golden/llama_grouped", at::kFloat, at::kCPU);
  load_adapter(t.path / "adapter", again);
  CHECK(relative_error(again.logits(again.hidden(ids)), want.at("logits")) < 1e-4);
  merge_lora(again);
  CHECK(relative_error(again.logits(again.hidden(ids)), want.at("logits")) < 1e-4);
  save_model(t.path / "merged", again, at::kFloat);
  Transformer merged = load_model(t.path / "merged", at::kFloat, at::kCPU);
  CHECK(relative_error(merged.logits(merged.hidden(ids)), want.at("logits")) < 1e-4);
}

TEST_CASE("checkpoints that do not fit are refused by name", "[golden]") {
  const TemporaryFolder t;
  const fs::path source = "tests/golden/llama_tied";
  const auto with = [&](const std::function<void(Json&)>& change) {
    fs::remove_all(t.path / "m");
    fs::create_directories(t.path / "m");
    fs::copy(source / "model.safetensors", t.path / "m" / "model.safetensors");
    Json config = read_json(source / "config.json");
    change(config);
    write_json(t.path / "m" / "config.json", config);
    return error_of([&] { load_model(t.path / "m", at::kFloat, at::kCPU); });
  };
  CHECK(with([](Json&) {}).empty());
  CHECK(contains(with([](Json& c) { c["num_hidden_layers"] = 3; }), "layers.2"));
  CHECK(contains(with([](Json& c) { c["num_hidden_layers"] = 1; }), "layers.1"));
  CHECK(contains(with([](Json& c) { c["intermediate_size"] = 40; }), "mlp"));
  CHECK(contains(with([](Json& c) { c["model_type"] = "mamba"; }), "mamba"));
  CHECK(contains(with([](Json& c) { c["hidden_act"] = "relu6"; }), "relu6"));
  CHECK(contains(with([](Json& c) {
                   c["rope_parameters"] = {{"rope_type", "longrope"}, {"rope_theta", 1e4}};
                 }),
                 "longrope"));
  CHECK(contains(with([](Json& c) { c["quantization_config"] = {{"bits", 4}}; }),
                 "quantization_config"));
  // An adapter of another base.
  Transformer other = load_model("tests/golden/llama_tied", at::kFloat, at::kCPU);
  CHECK_FALSE(error_of([&] { load_adapter("tests/golden/adapter", other); }).empty());
}

// The formulas that stand in for kernels of our own wherever there are none.
TEST_CASE("a device without kernels of ours computes what transformers, PEFT and torch do",
          "[golden]") {
  FakeDevice::start();
  check_training(FakeDevice::device());
  check_families(FakeDevice::device());
  check_cache(FakeDevice::device());
  check_muon(FakeDevice::device(), 1e-3);
}

TEST_CASE("a GPU computes what transformers, PEFT and torch do", "[gpu]") {
  if (!at::globalContext().hasCUDA()) {
    WARN("SKIPPED: there is no GPU, or this LibTorch has no CUDA");
    return;
  }
  check_training(at::kCUDA);
  check_families(at::kCUDA);
  check_cache(at::kCUDA);
  check_muon(at::kCUDA, 1e-3);  // its products are in bfloat16, whose sums another order rounds
}

}  // namespace
}  // namespace inoculum
