// What clients send, as libFuzzer makes it up: bodies of OpenAI's API, and HTTP as bytes. Whatever
// it is, it is read or refused; another exception, a field beyond its limits and what the
// sanitisers find are faults.
//
//   cmake --preset fuzz && cmake --build build-fuzz --target fuzz_requests
//   build-fuzz/fuzz_requests -max_total_time=600 FOLDER tests/fuzz/requests
//
// New inputs that reach new code are kept in FOLDER; tests/fuzz/requests has those to begin with.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <regex>
#include <thread>

#include "core/base/descriptor.h"
#include "core/base/strings.h"
#include "experiments/serving/http_server.h"
#include "experiments/serving/openai.h"

using namespace inoculum;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

void check_text(const std::string& text) { check(valid_utf8(text) == text); }

void check_request(const ApiRequest& request) {
  const ApiLimits limits;
  const SamplingConfig& sampling = request.sampling;
  check_text(request.model);
  check(!request.model.empty());
  check(request.endpoint == Endpoint::chat ? !request.conversation.empty()
                                           : !request.prompts.empty());
  for (const Message& each : request.conversation) {
    check_text(each.role + each.content + each.name);
    if (!each.more.empty()) check(parse_json(each.more, "").is_object());
  }
  if (!request.conversation.more.empty())
    check(parse_json(request.conversation.more, "").is_object());
  for (const auto& each : request.prompts)
    if (const auto* text = std::get_if<std::string>(&each)) check_text(*text);
    else
      for (const int32_t id : std::get<std::vector<int32_t>>(each)) check(id >= 0);
  for (const std::string& each : sampling.stop) check(!each.empty());
  check(sampling.temperature >= 0 && sampling.temperature <= 100);
  check(sampling.top_p >= 0 && sampling.top_p <= 1 && sampling.top_k >= 0);
  check(request.max_tokens.value_or(0) >= 0);
  check(request.logprobs.value_or(0) >= 0 && request.logprobs.value_or(0) <= limits.top_logprobs);
  check(request.n >= 1 && request.n <= limits.n);
  check(std::ssize(request.prompts) * request.n <= limits.choices);
}

// The reply to a body, by the endpoint.
ServerReply reply_to(Endpoint endpoint, std::string_view body) {
  try {
    check_request(read_request(endpoint, body));
    return {.body = "read\n"};
  } catch (const Error& error) {
    const Json reply = error_json(400, error.what(), error.where().field);
    return {.status = 400, .type = "application/json", .body = one_line(reply)};
  }
}

// What reaches the handler names this machine, whatever it says besides.
void handle(const ServerRequest& request, const std::shared_ptr<HttpExchange>& client) {
  static const std::regex here(R"((localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d*)?)",
                               std::regex::icase);
  const std::string host = request.header("host");
  check(host.empty() || std::regex_match(host, here));
  check(request.path.find('?') == std::string::npos);
  if (request.path == "/stream") {
    client->begin({.body = "a part\n"});
    client->write(request.body);
    return client->end();
  }
  client->send(reply_to(
      request.path.starts_with("/v1/chat") ? Endpoint::chat : Endpoint::completions, request.body));
}

// Says it to a server, which is done with it when it closes the connection.
void talk(std::string_view bytes) {
  static HttpServer& server = *new HttpServer({.port = 0, .body_bytes = 4096}, handle);
  static const bool runs = (std::thread([] { server.run(); }).detach(), true);
  const Descriptor client(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(server.port()));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const linger at_once{.l_onoff = 1, .l_linger = 0};  // or ports would run out
  ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  check(runs && ::connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  ::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  ::shutdown(client.get(), SHUT_WR);
  std::string reply;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(client.get(), buffer, sizeof buffer, 0)) > 0;)
    reply.append(buffer, static_cast<size_t>(n));
  check(reply.empty() || reply.starts_with("HTTP/1.1 "));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with("{")) {
    reply_to(Endpoint::chat, bytes);
    reply_to(Endpoint::completions, bytes);
  } else {
    talk(bytes);
  }
  return 0;
}
