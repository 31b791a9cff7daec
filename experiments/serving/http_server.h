// HTTP/1.1 for a few routes, on one thread that waits for all connections at once.
//
//   HttpServer server({.port = 8000}, [](ServerRequest request, std::shared_ptr<HttpExchange>
//   client)
//   {
//     client->send({.body = "hello"});
//   });
//   std::thread thread([&] { server.run(); });
//   …
//   server.stop();  // from any thread
//
// On Boost.Beast rather than cpp-httplib, which gives a connection a thread as long as it lasts: a
// few dozen clients that are slow, or only pretend to be clients, would keep all others away. Here
// ten thousand of them cost their sockets. Limits, time-outs and a client's leaving are built in.
//
// Every reply forbids to be framed, sniffed, kept or scripted from elsewhere, and no header allows
// other origins. A page on the web that calls this machine by a name of its own (DNS rebinding)
// does not get through: on the loopback interface, Host must name it. Nor does one that posts to it
// blindly: an Origin other than Host is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace inoculum {

struct HttpServerConfig {
  std::string host = "127.0.0.1";
  int64_t port = 8000;  // 0: one that is free
  int64_t body_bytes = 2 << 20;
  int64_t connections = 20000;  // more are refused; or ¾ of what descriptors the system allows
  double idle_s = 60;           // between two requests of a connection
  double receive_s = 30;        // for a request to arrive
  double send_s = 30;           // for a part of a reply to be taken
};

struct ServerRequest {
  std::string method, path, body;              // the path without the query
  std::map<std::string, std::string> headers;  // names in lower case
  std::string header(const std::string& lower_case_name) const;
};

struct ServerReply {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body = {};
  std::map<std::string, std::string> headers = {};
};

// One request being answered, by one send(), or by begin(), write() … and end(). From any thread;
// what comes after the client has left, or after the end, goes nowhere.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void send(ServerReply reply) = 0;
  virtual void begin(ServerReply head) = 0;  // its body is written first
  virtual void write(std::string part) = 0;
  virtual void end() = 0;
  // Called once, by the server's thread, if the client leaves before the reply has ended, or does
  // not take it.
  virtual void on_leave(std::function<void()> left) = 0;
};

bool is_loopback(const std::string& host);

class HttpServer {
 public:
  // How a request that is refused before it reaches the handler is answered; by default in words.
  using Refusal = std::function<ServerReply(int status, const std::string& message)>;
  using Handler = std::function<void(ServerRequest, std::shared_ptr<HttpExchange>)>;

  // Listens from now on. An Error where the port is taken or the host unknown.
  HttpServer(HttpServerConfig config, Handler handler, Refusal refusal = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int64_t port() const;
  int64_t connections() const;
  void run();  // until stop(); the handler is called by this thread and must not throw
  void post(std::function<void()> work);  // by the thread that runs, from any other
  // No more connections are accepted; run() returns when the replies that have begun are sent, or
  // after so many seconds.
  void stop(double grace_s);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace inoculum
