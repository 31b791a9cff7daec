// The API's text, and HTTP: what is read, what is refused, and what a hostile client gets.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "core/base/descriptor.h"
#include "core/base/http.h"
#include "core/base/random.h"
#include "core/text/load_tokenizer.h"
#include "experiments/serving/http_server.h"
#include "experiments/serving/openai.h"
#include "tests/catch.h"

using namespace inoculum;

namespace {

Json chat() { return {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}}; }
ApiRequest read_chat(const Json& body) { return read_request(Endpoint::chat, body.dump()); }
ApiRequest with(const std::string& field, Json value) {
  Json body = chat();
  body[field] = std::move(value);
  return read_chat(body);
}
// The field that the refusal names.
std::string refused(const std::string& text, Endpoint endpoint = Endpoint::chat) {
  try {
    read_request(endpoint, text);
  } catch (const Error& error) {
    return error.where().field.empty() ? "?" : error.where().field;
  }
  return "";
}

Descriptor connect_to(int64_t port) {
  Descriptor s(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(s.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  REQUIRE(::connect(s.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
  return s;
}

// What the server says to bytes as they are.
std::string talk(int64_t port, const std::string& bytes, bool half_close = false) {
  const Descriptor client = connect_to(port);
  const int s = client.get();
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(s, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<size_t>(n);
  }
  if (half_close) ::shutdown(s, SHUT_WR);
  std::string reply;
  char buffer[4096];
  for (ssize_t n; (n = ::recv(s, buffer, sizeof buffer, 0)) > 0;)
    reply.append(buffer, static_cast<size_t>(n));
  return reply;
}

struct RunningServer {
  explicit RunningServer(HttpServer::Handler handler, HttpServerConfig config = {})
      : server((config.port = 0, config), std::move(handler)), thread([this] { server.run(); }) {}
  ~RunningServer() {
    server.stop(1);
    thread.join();
  }
  HttpServer server;
  std::thread thread;
};

const std::string kHead = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";

}  // namespace

TEST_CASE("a request of OpenAI's API is read", "[serving]") {
  const ApiRequest plain = read_chat(chat());
  CHECK(plain.model == "m");
  CHECK(plain.conversation.size() == 1);
  CHECK(plain.sampling.temperature == 1);
  CHECK(plain.sampling.stop.empty());
  CHECK_FALSE(plain.max_tokens);
  CHECK_FALSE(plain.logprobs);
  CHECK(with("stop", "a").sampling.stop == std::vector<std::string>{"a"});
  CHECK(with("stop", {"a", "b"}).sampling.stop.size() == 2);
  CHECK(with("temperature", 0.5).sampling.temperature == 0.5);
  CHECK(with("temperature", 1e-300).sampling.greedy());
  CHECK(with("top_k", -1).sampling.top_k == 0);
  CHECK(with("seed", -3).seed == -3);
  CHECK(with("max_tokens", 16.0).max_tokens == 16);
  CHECK(with("max_completion_tokens", 7).max_tokens == 7);
  CHECK(with("as", "Mira").as == "Mira");
  CHECK(with("stream", nullptr).stream == false);
  CHECK(with("chat_template_kwargs", {{"enable_thinking", false}})
            .conversation.more.find("enable_thinking") != std::string::npos);
  Json body = chat();
  body["logprobs"] = true;
  body["top_logprobs"] = 4;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  body["user"] = "somebody";
  body["presence_penalty"] = 0.0;
  body["tools"] = Json::array();
  body["response_format"] = {{"type", "text"}};
  const ApiRequest full = read_chat(body);
  CHECK(full.logprobs == 4);
  CHECK(full.include_usage);

  const auto prompts = [](const std::string& prompt) {
    return read_request(Endpoint::completions, R"({"model": "m", "prompt": )" + prompt + "}")
        .prompts;
  };
  CHECK(std::get<std::string>(prompts(R"("a")")[0]) == "a");
  CHECK(prompts(R"(["a", "b"])").size() == 2);
  CHECK(std::get<std::vector<int32_t>>(prompts("[1, 2]")[0]) == std::vector<int32_t>{1, 2});
  CHECK(std::get<std::vector<int32_t>>(prompts("[[1], [2, 3]]")[1]).size() == 2);
  CHECK(read_request(Endpoint::completions,
                     R"({"model": "m", "prompt": "a", "echo": true, "max_tokens": 0})")
            .max_tokens == 0);
}

TEST_CASE("what cannot be honoured is refused by its name", "[serving]") {
  const auto bad = [](const std::string& field, const std::string& value) {
    return refused(R"({"model": "m", "messages": [{"role": "user", "content": "Hi"}], ")" + field +
                   "\": " + value + "}");
  };
  for (const std::string field : {"temperature", "top_p", "top_k", "max_tokens",
                                  "max_completion_tokens", "n", "top_logprobs"})
    for (const std::string value : {"-2", "-1e308", "1e300", "99999999999999999999",
                                    "-99999999999999999999", "\"1\"", "[]", "{}", "true", "1e12"}) {
      CAPTURE(field, value);
      CHECK(bad(field, value) == field);
    }
  for (const std::string field : {"max_tokens", "n", "top_k", "seed"})
    CHECK(bad(field, "1.5") == field);
  CHECK(bad("n", "0") == "n");
  CHECK(bad("max_tokens", "0") == "max_tokens");
  CHECK(bad("seed", "18446744073709551615") == "seed");
  CHECK(bad("temperature", "1e999") != "");
  CHECK(bad("temperature", "NaN") != "");
  CHECK(bad("stop", "[1]") == "stop");
  CHECK(bad("stop", "\"\"") == "stop");
  CHECK(bad("stream", "\"yes\"") == "stream");
  CHECK(bad("presence_penalty", "0.5") == "presence_penalty");
  CHECK(bad("logit_bias", R"({"5": 100})") == "logit_bias");
  CHECK(bad("tools", R"([{"type": "function"}])") == "tools");
  CHECK(bad("response_format", R"({"type": "json_object"})") == "response_format");
  CHECK(bad("min_p", "0.1") == "min_p");
  CHECK(bad("temprature", "1") == "temprature");
  CHECK(bad("top_logprobs", "3") == "top_logprobs");  // without logprobs
  CHECK(refused("{}") == "model");
  CHECK(refused(R"({"model": "m"})") == "messages");
  CHECK(refused("[]") == "?");
  CHECK(refused("") == "?");
  CHECK(refused("{\"model\": \"\xff\"}") == "?");
  CHECK(refused(std::string(100000, '[')) == "?");
  CHECK(refused(R"({"model": "m", "prompt": []})", Endpoint::completions) == "prompt");
  CHECK(refused(R"({"model": "m", "prompt": [1, "a"]})", Endpoint::completions) == "prompt");
  CHECK(refused(R"({"model": "m", "prompt": [-1]})", Endpoint::completions) == "prompt");
  CHECK(refused(R"({"model": "m", "prompt": [4294967296]})", Endpoint::completions) == "prompt");
}

TEST_CASE("random requests are read or refused", "[serving]") {
  const std::vector<std::string> names = {
      "model",      "messages", "prompt",         "n",  "stop",  "temperature",
      "max_tokens", "logprobs", "stream_options", "as", "tools", "chat_template_kwargs",
      "echo",       "role",     "content"};
  Random random(1, "requests");
  const std::function<Json(int)> value = [&](int depth) -> Json {
    switch (random.below(depth > 3 ? 6 : 8)) {
      case 0: return nullptr;
      case 1: return random.chance(0.5);
      case 2: return static_cast<int64_t>(random.next());
      case 3: return random.next();
      case 4: return random.normal() * std::pow(10, random.between(-300, 300));
      case 5: return random.choice(names);
      case 6: {
        Json list = Json::array();
        for (uint64_t i = random.below(4); i > 0; --i) list.push_back(value(depth + 1));
        return list;
      }
      default: {
        Json object = Json::object();
        for (uint64_t i = random.below(6); i > 0; --i)
          object[random.choice(names)] = value(depth + 1);
        return object;
      }
    }
  };
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    Json body = random.chance(0.5) ? chat() : Json{{"model", "m"}, {"prompt", "a"}};
    for (uint64_t k = random.below(3); k > 0; --k) body[random.choice(names)] = value(0);
    std::string text = body.dump();
    if (random.chance(0.3))  // a byte that is wrong
      text[random.below(text.size())] = static_cast<char>(random.below(256));
    try {
      read_request(random.chance(0.5) ? Endpoint::chat : Endpoint::completions, text);
      ++read;
    } catch (const Error&) {
    }
  }
  CHECK(read > 500);
}

TEST_CASE("replies have OpenAI's shapes", "[serving]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const std::vector<int32_t> ids = tokenizer->encode(" the candle");
  const std::vector<TokenLogprob> tokens = {{ids[0], -0.5, {{ids[1], -0.25}, {ids[0], -0.5}}}};
  const Json in_chat = chat_logprobs(*tokenizer, tokens);
  CHECK(in_chat["content"][0]["token"].get<std::string>() == tokenizer->decode({&ids[0], 1}));
  CHECK(in_chat["content"][0]["top_logprobs"].size() == 2);
  int64_t offset = 3;
  const Json of_completion = completion_logprobs(*tokenizer, ids[1], tokens, offset);
  CHECK(of_completion["tokens"].size() == 2);
  CHECK(of_completion["token_logprobs"][0].is_null());
  CHECK(of_completion["text_offset"][0] == 3);
  CHECK(of_completion["top_logprobs"][1].size() == 2);
  const ReplyHead head{.endpoint = Endpoint::chat, .id = "chatcmpl-1", .model = "m"};
  const Json first = chunk(head, {.text = "a"}, true),
             last = chunk(head, {.finish_reason = "stop"}, false);
  CHECK(first["object"].get<std::string>() == "chat.completion.chunk");
  CHECK(first["choices"][0]["delta"]["role"].get<std::string>() == "assistant");
  CHECK(first["choices"][0]["finish_reason"].is_null());
  CHECK(last["choices"][0]["delta"].empty());
  CHECK(whole_reply(head, {{.text = "a", .finish_reason = "stop"}},
                    {3, 1})["usage"]["total_tokens"] == 4);
  // Bytes that are no text do not break a reply.
  CHECK(server_sent_event(chunk(head, {.text = "\xff"}, true)).starts_with("data: {"));
}

TEST_CASE("HTTP is answered, streamed and refused", "[serving]") {
  std::atomic<int> left = 0;
  std::shared_ptr<HttpExchange> kept;
  RunningServer running(
      [&](ServerRequest request, const std::shared_ptr<HttpExchange>& client) {
        if (request.path == "/stream") {
          client->begin({.body = "one "});
          client->write("two");
          client->end();
        } else if (request.path == "/wait") {
          kept = client;
          client->on_leave([&] { ++left; });
        } else {
          client->send({.body = request.method + " " + request.path + " " + request.body});
        }
      },
      {.body_bytes = 1000, .receive_s = 1});
  const int64_t port = running.server.port();
  const auto status = [&](const std::string& bytes) { return talk(port, bytes).substr(9, 3); };

  const std::string reply = talk(port, "GET /a/b?c=d" + kHead + "\r\n");
  CHECK(contains(reply, "200 OK"));
  CHECK(contains(reply, "GET /a/b "));
  for (const std::string name :
       {"Content-Security-Policy: default-src 'self'", "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY", "Cache-Control: no-store"})
    CHECK(contains(reply, name));
  CHECK_FALSE(contains(reply, "Access-Control"));
  CHECK(contains(talk(port, "GET /stream" + kHead + "\r\n"), "4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"));
  CHECK(contains(talk(port, "GET /stream HTTP/1.0\r\n\r\n"), "\r\n\r\none two"));
  CHECK(contains(talk(port, "POST /p" + kHead + "Content-Length: 2\r\n\r\nhi"), "POST /p hi"));
  // Two requests at once on one connection.
  const std::string two =
      talk(port, "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /2" + kHead + "\r\n");
  CHECK(contains(two, "GET /1 "));
  CHECK(contains(two, "GET /2 "));

  CHECK(status("nonsense\r\n\r\n") == "400");
  CHECK(status("GET / HTTP/1.1\r\n\r\n") == "400");
  CHECK(status("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n") == "403");
  CHECK(status("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example:80\r\n\r\n") == "403");
  for (const std::string host : {"localhost:80@evil.example", "localhost:80\r\nHost: evil.example",
                                 "[::1]evil.example", "[", "[::1", ":80"}) {
    CAPTURE(host);
    CHECK(status("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n") == "403");
  }
  CHECK(status("GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n") == "200");
  CHECK(status("POST /" + kHead + "Origin: http://evil.example\r\n\r\n") == "403");
  CHECK(status("POST /" + kHead + "Origin: null\r\n\r\n") == "403");
  CHECK(status("POST /" + kHead + "Origin: http://localhost\r\n\r\n") == "200");
  CHECK(status("POST /" + kHead + "Content-Length: 1001\r\n\r\n" + std::string(1001, 'x')) ==
        "413");
  CHECK(status("POST /" + kHead + "Content-Length: 99999999999999999999999\r\n\r\n") == "400");
  CHECK(status("POST /" + kHead + "Content-Length: -1\r\n\r\n") == "400");
  CHECK(status("POST /" + kHead + "Transfer-Encoding: chunked\r\n\r\nzz\r\n") == "400");
  CHECK(status("GET /" + kHead + "X: " + std::string(20000, 'x') + "\r\n\r\n") == "431");
  CHECK(status("GET /" + std::string(20000, 'x') + kHead + "\r\n") == "431");
  // Half of a request, and nothing: the connection is closed.
  CHECK(talk(port, "POST /" + kHead + "Content-Length: 5\r\n\r\nhi").empty());
  CHECK(talk(port, "").empty());
  Random random(3, "bytes");
  for (int i = 0; i < 200; ++i) {
    std::string bytes = "POST /x" + kHead + "Content-Length: 2\r\n\r\nhi";
    for (uint64_t k = random.between(1, 4); k > 0; --k)
      bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    talk(port, bytes, true);
  }
  // A client that leaves is noticed; what is written for it then goes nowhere.
  CHECK(left == 0);
  Descriptor waits = connect_to(port);
  const std::string wait = "GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n";
  REQUIRE(waits.write(wait));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  waits.close();
  for (int i = 0; i < 100 && left == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(left == 1);
  kept->send({.body = "late"});
  kept.reset();
  CHECK(status("GET /" + kHead + "\r\n") == "200");
}

TEST_CASE("more clients than there is room for are refused", "[serving]") {
  RunningServer running(
      [](const ServerRequest&, const std::shared_ptr<HttpExchange>& client) {
        client->send({.body = "hello"});
      },
      {.connections = 2});
  const auto status = [&] {
    return talk(running.server.port(), "GET /" + kHead + "\r\n").substr(9, 3);
  };
  {
    const Descriptor one = connect_to(running.server.port()),
                     two = connect_to(running.server.port());
    CHECK(status() == "503");
  }
  std::string after = "503";
  for (int i = 0; i < 200 && after == "503"; ++i) after = status();  // until it knows they left
  CHECK(after == "200");
}

TEST_CASE("a port that is taken is an Error", "[serving]") {
  HttpServer first({.port = 0}, [](ServerRequest, const std::shared_ptr<HttpExchange>&) {});
  CHECK(contains(error_of([&] {
                   HttpServer({.port = first.port()},
                              [](ServerRequest, const std::shared_ptr<HttpExchange>&) {});
                 }),
                 "another port"));
  CHECK_FALSE(error_of([] {
                HttpServer({.host = "no.such.host.invalid", .port = 0},
                           [](ServerRequest, const std::shared_ptr<HttpExchange>&) {});
              }).empty());
}
