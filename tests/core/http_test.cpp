// Pauses before another try, and what is fetched of a model hub.
#include "core/base/http.h"

#include "core/model/hub.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

TEST_CASE("pauses double, keep to Retry-After, and end", "[http]") {
  const HttpResponse plain{.status = 500};
  CHECK(retry_pause(plain, 1, 1) == Approx(0.5));
  CHECK(retry_pause(plain, 3, 1) == Approx(2));
  CHECK(retry_pause(plain, 3, 0.25) == Approx(0.5));
  CHECK(retry_pause(plain, 1000000, 1) == Approx(60));
  const auto after = [](const std::string& value) {
    return retry_pause({.status = 429, .headers = {{"retry-after", value}}}, 1, 0);
  };
  CHECK(after("7") == 7);
  CHECK(after("1.5") == 1.5);
  CHECK(after("100000") == 120);
  for (const char* value : {"-5", "nan", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"})
    CHECK(after(value) == 0);
  CHECK(after("Fri, 01 Jan 2038 00:00:00 GMT") == 120);
}

TEST_CASE("what is fetched of a repo", "[http]") {
  using Names = std::vector<std::string>;
  CHECK(files_to_fetch({"model.safetensors", "vocab.json", "merges.txt", "config.json",
                        "pytorch_model.bin", "LICENSE.bin", "flax_model.msgpack"},
                       "x") ==
        Names{"config.json", "merges.txt", "vocab.json", "model.safetensors"});
  CHECK(files_to_fetch({"adapter_model.safetensors", "adapter_config.json", "adapter_model.bin",
                        "checkpoint-5/adapter_model.safetensors"},
                       "x") == Names{"adapter_config.json", "adapter_model.safetensors"});
  CHECK(files_to_fetch({"consolidated.safetensors"}, "x") == Names{"consolidated.safetensors"});
  CHECK(contains(error_of([] { files_to_fetch({"config.json", "model.ckpt"}, "x"); }),
                 "never fetched"));
  CHECK(
      contains(error_of([] { files_to_fetch({"sub/model.safetensors"}, "x"); }), "no safetensors"));
  for (const char* name : {"../a.json", "/a.json", "a/../../b", "..", "a\\b", ""})
    CHECK(contains(error_of([&] { files_to_fetch({"model.safetensors", name}, "x"); }),
                   "out of the folder"));
}

}  // namespace
}  // namespace inoculum
