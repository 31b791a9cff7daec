#include "experiments/serving/http_server.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <set>
#include <sstream>

#include "core/base/error.h"
#include "core/base/strings.h"

// Asio reports an error in its last argument, and returns it once more.
// NOLINTBEGIN(bugprone-unused-return-value)

namespace inoculum {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kHeaderBytes = 16 << 10;
constexpr size_t kUnsentBytes = 4 << 20;  // of a reply that its client does not take
const std::vector<std::pair<std::string, std::string>> kAlways = {
    {"Content-Security-Policy",
     "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cache-Control", "no-store"}};

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(1000 * seconds));
}

// "localhost:8000" → "localhost"; "[::1]:8000" → "::1"; "" where no port follows, but something
// else.
std::string without_port(const std::string& host) {
  const bool brackets = host.starts_with("[");
  const size_t end = brackets ? host.find(']') + 1 : std::min(host.find(':'), host.size());
  const std::string port = host.substr(end);
  if (!port.empty() && (port[0] != ':' || port.find_first_not_of("0123456789", 1) != port.npos))
    return "";
  return brackets ? host.substr(1, end - 2) : host.substr(0, end);
}

// Each socket is a descriptor, of which a process may have few unless it asks for more. Returns how
// many it may have.
int64_t raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 30));
}

}  // namespace

std::string ServerRequest::header(const std::string& lower_case_name) const {
  const auto it = headers.find(lower_case_name);
  return it == headers.end() ? "" : it->second;
}

bool is_loopback(const std::string& host) {
  error_code error;
  const asio::ip::address address = asio::ip::make_address(host, error);
  return error ? host == "localhost" : address.is_loopback();
}

struct HttpServer::Impl : std::enable_shared_from_this<Impl> {
  Impl(HttpServerConfig config_, Handler handler_, Refusal refusal_);
  void listen();
  void accept();
  void stop(double grace_s);

  const HttpServerConfig config;
  const bool loopback;
  Handler handler;
  Refusal refusal;
  asio::io_context context{1};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  tcp::acceptor acceptor{context};
  asio::steady_timer timer{context};
  int64_t port = 0;
  std::atomic<int64_t> count = 0;
  bool stopping = false;
  class Connection;
  class Exchange;
  std::set<Connection*> connections;
};

// A client's connection: reads a request, is answered through an Exchange, reads the next. All of
// it happens on the server's thread.
class HttpServer::Impl::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Impl> server, tcp::socket socket)
      : server_(std::move(server)), stream_(std::move(socket)) {
    error_code ignored;
    stream_.socket().non_blocking(true, ignored);
    stream_.socket().set_option(tcp::no_delay(true), ignored);
    server_->connections.insert(this);
    ++server_->count;
  }
  ~Connection() {
    server_->connections.erase(this);
    --server_->count;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void read(double seconds);
  void refuse(int status, const std::string& message);
  // Of the reply to the request of this number; of one that is over nothing is taken.
  void send(uint64_t request, const ServerReply& reply);
  void begin(uint64_t request, const ServerReply& head);
  void write(uint64_t request, const std::string& part);
  void end(uint64_t request);
  void on_leave(uint64_t request, std::function<void()> left);
  void stop();  // behind the reply under way
  void close();
  asio::io_context& context() { return server_->context; }

 private:
  bool answers(uint64_t request) const { return answering_ && request == request_; }
  void read_body();
  void answer();
  std::optional<std::pair<int, std::string>> fault(const ServerRequest& request) const;
  void fail(const error_code& error);
  std::string head_of(const ServerReply& reply, std::optional<size_t> length) const;
  void put(std::string_view bytes);
  void flush();
  void finish();
  void watch();
  void leave();
  void drain();

  std::shared_ptr<Impl> server_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  uint64_t request_ = 0;  // the number of the one under way
  bool answering_ = false, watching_ = false, writing_ = false, ended_ = false;
  bool keep_alive_ = false, chunked_ = false, drains_ = false, closed_ = false;
  std::string unsent_, sending_;
  std::function<void()> left_;
  std::array<char, 4096> scratch_{};
};

// From any thread to the server's.
class HttpServer::Impl::Exchange : public HttpExchange {
 public:
  Exchange(std::shared_ptr<Connection> connection, uint64_t request)
      : connection_(std::move(connection)), request_(request) {}
  ~Exchange() override {  // a connection is used, and ends, on the server's thread alone
    asio::io_context& its_context = connection_->context();
    asio::post(its_context, [last = std::move(connection_)] {});
  }
  void send(ServerReply reply) override {
    post([reply = std::move(reply)](Connection& c, uint64_t r) { c.send(r, reply); });
  }
  void begin(ServerReply head) override {
    post([head = std::move(head)](Connection& c, uint64_t r) { c.begin(r, head); });
  }
  void write(std::string part) override {
    post([part = std::move(part)](Connection& c, uint64_t r) { c.write(r, part); });
  }
  void end() override {
    post([](Connection& c, uint64_t r) { c.end(r); });
  }
  void on_leave(std::function<void()> left) override {
    post([left = std::move(left)](Connection& c, uint64_t r) mutable {
      c.on_leave(r, std::move(left));
    });
  }

 private:
  template <class Action>
  void post(Action action) {
    asio::post(connection_->context(),
               [connection = connection_, request = request_,
                action = std::move(action)]() mutable { action(*connection, request); });
  }
  std::shared_ptr<Connection> connection_;
  const uint64_t request_;
};

void HttpServer::Impl::Connection::read(double seconds) {
  if (server_->stopping) return close();
  parser_.emplace();
  parser_->header_limit(kHeaderBytes);
  parser_->body_limit(static_cast<uint64_t>(server_->config.body_bytes));
  stream_.expires_after(milliseconds(seconds));
  http::async_read_header(stream_, buffer_, *parser_,
                          [self = shared_from_this()](const error_code& error, size_t) {
                            if (error) self->fail(error);
                            else self->read_body();
                          });
}

void HttpServer::Impl::Connection::read_body() {
  stream_.expires_after(milliseconds(server_->config.receive_s));
  if (beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
    error_code ignored;
    stream_.socket().send(asio::buffer("HTTP/1.1 100 Continue\r\n\r\n", 25), 0, ignored);
  }
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](const error_code& error, size_t) {
                     if (error) self->fail(error);
                     else self->answer();
                   });
}

void HttpServer::Impl::Connection::answer() {
  auto message = parser_->release();
  parser_.reset();
  // Behind a HEAD no body is awaited, and every reply has one.
  keep_alive_ = message.keep_alive() && message.method() != http::verb::head;
  chunked_ = message.version() >= 11;
  answering_ = true;
  const std::string_view target(message.target().data(), message.target().size());
  ServerRequest request{.method = std::string(message.method_string()),
                        .path = std::string(target.substr(0, target.find('?'))),
                        .body = std::move(message.body()),
                        .headers = {}};
  for (const auto& field : message) {
    std::string& value =
        request.headers[ascii_lower({field.name_string().data(), field.name_string().size()})];
    if (!value.empty()) value += ", ";
    value.append(field.value().data(), field.value().size());
  }
  if (const auto wrong = fault(request)) return refuse(wrong->first, wrong->second);
  stream_.expires_never();
  watch();
  server_->handler(std::move(request), std::make_shared<Exchange>(shared_from_this(), request_));
}

// What a request is refused for, whatever it asks.
std::optional<std::pair<int, std::string>> HttpServer::Impl::Connection::fault(
    const ServerRequest& request) const {
  const std::string host = ascii_lower(request.header("host"));
  if (host.empty() && chunked_) return std::pair(400, "the header Host is missing");
  if (server_->loopback && !host.empty() && !is_loopback(without_port(host)))
    return std::pair(403, "this server answers to localhost, not to \"" + host + "\"");
  if (const auto it = request.headers.find("origin"); it != request.headers.end()) {
    const size_t scheme = it->second.find("://");
    if (scheme == std::string::npos || ascii_lower(it->second.substr(scheme + 3)) != host)
      return std::pair(403, "pages of other sites may not call this server");
  }
  return std::nullopt;
}

void HttpServer::Impl::Connection::fail(const error_code& error) {
  if (error == http::error::header_limit)
    return refuse(431, "the header is longer than " + std::to_string(kHeaderBytes) + " bytes");
  if (error == http::error::body_limit)
    return refuse(
        413, "the body is longer than " + std::to_string(server_->config.body_bytes) + " bytes");
  const bool malformed = error.category() == make_error_code(http::error::bad_version).category();
  if (malformed && error != http::error::end_of_stream && error != http::error::partial_message)
    return refuse(400, "this is no HTTP/1.1: " + error.message());
  close();
}

// Answers what was not read to its end, or is not the handler's to answer.
void HttpServer::Impl::Connection::refuse(int status, const std::string& message) {
  const bool whole = answering_;
  answering_ = true;
  drains_ = !whole;
  keep_alive_ = keep_alive_ && whole;
  send(request_, server_->refusal(status, message));
}

std::string HttpServer::Impl::Connection::head_of(const ServerReply& reply,
                                                  std::optional<size_t> length) const {
  http::response_header<> head;
  head.version(11);
  head.result(static_cast<unsigned>(reply.status));
  head.set(http::field::content_type, reply.type);
  head.set(http::field::connection, keep_alive_ ? "keep-alive" : "close");
  if (length) head.set(http::field::content_length, std::to_string(*length));
  else if (chunked_) head.set(http::field::transfer_encoding, "chunked");
  for (const auto& [name, value] : kAlways) head.set(name, value);
  for (const auto& [name, value] : reply.headers) head.set(name, value);
  std::ostringstream text;
  text << head;
  return text.str();
}

void HttpServer::Impl::Connection::send(uint64_t request, const ServerReply& reply) {
  if (!answers(request)) return;
  if (server_->stopping) keep_alive_ = false;
  put(head_of(reply, reply.body.size()));
  put(reply.body);
  ended_ = true;
  flush();
}

void HttpServer::Impl::Connection::begin(uint64_t request, const ServerReply& head) {
  if (!answers(request)) return;
  keep_alive_ = keep_alive_ && chunked_ && !server_->stopping;
  put(head_of(head, std::nullopt));
  if (!head.body.empty()) write(request, head.body);
  else flush();
}

void HttpServer::Impl::Connection::write(uint64_t request, const std::string& part) {
  if (!answers(request) || part.empty()) return;
  if (chunked_) put(fmt::format("{:x}\r\n", part.size()));
  put(part);
  if (chunked_) put("\r\n");
  flush();
}

void HttpServer::Impl::Connection::end(uint64_t request) {
  if (!answers(request)) return;
  if (chunked_) put("0\r\n\r\n");
  ended_ = true;
  flush();
}

void HttpServer::Impl::Connection::on_leave(uint64_t request, std::function<void()> left) {
  if (answers(request)) left_ = std::move(left);
  else if (closed_) left();  // it left before
}

void HttpServer::Impl::Connection::put(std::string_view bytes) { unsent_ += bytes; }

void HttpServer::Impl::Connection::flush() {
  if (writing_ || closed_) {
    if (unsent_.size() > kUnsentBytes) leave();
    return;
  }
  if (unsent_.empty()) {
    if (ended_) finish();
    return;
  }
  writing_ = true;
  sending_ = std::exchange(unsent_, {});
  stream_.expires_after(milliseconds(server_->config.send_s));
  asio::async_write(stream_, asio::buffer(sending_),
                    [self = shared_from_this()](const error_code& error, size_t) {
                      self->writing_ = false;
                      if (error) self->leave();
                      else self->flush();
                    });
}

// The reply is sent.
void HttpServer::Impl::Connection::finish() {
  answering_ = ended_ = false;
  left_ = nullptr;
  ++request_;
  if (drains_) drain();
  else if (keep_alive_) read(server_->config.idle_s);
  else close();
}

// Notices a client that leaves while it is answered: what can be read then is its end. A next
// request that it sends ahead waits, and whether it leaves is then seen by writing alone.
void HttpServer::Impl::Connection::watch() {
  if (watching_) return;
  watching_ = true;
  stream_.socket().async_wait(
      tcp::socket::wait_read, [self = shared_from_this()](const error_code& error) {
        self->watching_ = false;
        if (error || self->closed_ || !self->answering_) return;
        char byte = 0;
        error_code failure;
        self->stream_.socket().receive(asio::buffer(&byte, 1), tcp::socket::message_peek, failure);
        if (failure == asio::error::would_block) self->watch();
        else if (failure) self->leave();
      });
}

void HttpServer::Impl::Connection::leave() {
  answering_ = false;
  ++request_;
  close();
  if (const auto left = std::exchange(left_, nullptr)) left();
}

// Reads and forgets the rest of a request that was refused: a socket that is closed with bytes
// unread takes the reply back.
void HttpServer::Impl::Connection::drain() {
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  struct Rest {
    std::shared_ptr<Connection> self;
    int64_t left;
    void operator()(const error_code& error, size_t read) {
      left -= static_cast<int64_t>(read);
      if (error || left < 0) return self->close();
      self->stream_.async_read_some(asio::buffer(self->scratch_), Rest{self, left});
    }
  };
  stream_.expires_after(milliseconds(2.0));
  Rest{shared_from_this(), server_->config.body_bytes}({}, 0);
}

void HttpServer::Impl::Connection::stop() {
  keep_alive_ = false;
  if (!answering_) close();
}

void HttpServer::Impl::Connection::close() {
  if (closed_) return;
  closed_ = true;
  unsent_.clear();
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
  stream_.socket().close(ignored);
}

HttpServer::Impl::Impl(HttpServerConfig config_, Handler handler_, Refusal refusal_)
    : config(std::move(config_)),
      loopback(is_loopback(config.host)),
      handler(std::move(handler_)),
      refusal(refusal_ ? std::move(refusal_) : [](int status, const std::string& message) {
        return ServerReply{.status = status, .body = message + "\n"};
      }) {}

void HttpServer::Impl::listen() {
  const std::string where = config.host + ":" + std::to_string(config.port);
  error_code error;
  const auto found = tcp::resolver(context).resolve(
      config.host, std::to_string(config.port),
      tcp::resolver::passive | tcp::resolver::numeric_service, error);
  if (error || found.empty())
    throw Error("the host " + config.host + " is unknown: " + error.message(), {.field = "host"});
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(4096, error);
  if (error)
    throw Error("cannot listen at " + where + ": " + error.message(), {.field = "port"},
                error == asio::error::address_in_use ? "name another port" : "");
  port = acceptor.local_endpoint().port();
}

void HttpServer::Impl::accept() {
  acceptor.async_accept([self = shared_from_this()](const error_code& error, tcp::socket socket) {
    if (self->stopping) return;
    if (error) {  // no descriptor is free, most likely
      self->timer.expires_after(std::chrono::milliseconds(100));
      self->timer.async_wait([self](const error_code& cancelled) {
        if (!cancelled) self->accept();
      });
      return;
    }
    const auto connection = std::make_shared<Connection>(self, std::move(socket));
    if (self->count <= self->config.connections) connection->read(self->config.receive_s);
    else connection->refuse(503, "too many clients are connected");
    self->accept();
  });
}

void HttpServer::Impl::stop(double grace_s) {
  stopping = true;
  error_code ignored;
  acceptor.close(ignored);
  std::vector<std::shared_ptr<Connection>> all;
  for (Connection* each : connections) all.push_back(each->shared_from_this());
  for (const auto& each : all) each->stop();
  const auto end = std::chrono::steady_clock::now() + milliseconds(grace_s);
  struct Wait {
    std::shared_ptr<Impl> self;
    std::chrono::steady_clock::time_point end;
    void operator()(const error_code&) const {
      if (self->count == 0 || std::chrono::steady_clock::now() >= end) return self->context.stop();
      self->timer.expires_after(std::chrono::milliseconds(20));
      self->timer.async_wait(*this);
    }
  };
  asio::post(context, [wait = Wait{shared_from_this(), end}] { wait({}); });
}

HttpServer::HttpServer(HttpServerConfig config, Handler handler, Refusal refusal) {
  // The others are for files, and for clients that are being refused.
  config.connections = std::min(config.connections, raise_descriptor_limit() / 4 * 3);
  impl_ = std::make_shared<Impl>(std::move(config), std::move(handler), std::move(refusal));
  impl_->listen();
}

// What is still under way is ended, for it holds what holds it.
HttpServer::~HttpServer() {
  error_code ignored;
  impl_->stopping = true;
  impl_->acceptor.close(ignored);
  impl_->timer.cancel();
  std::vector<std::shared_ptr<Impl::Connection>> all;
  for (Impl::Connection* each : impl_->connections) all.push_back(each->shared_from_this());
  for (const auto& each : all) each->close();
  all.clear();
  impl_->context.restart();
  impl_->context.poll();
}

int64_t HttpServer::port() const { return impl_->port; }
int64_t HttpServer::connections() const { return impl_->count; }

void HttpServer::run() {
  asio::post(impl_->context, [impl = impl_] { impl->accept(); });
  impl_->context.run();
}

void HttpServer::post(std::function<void()> work) { asio::post(impl_->context, std::move(work)); }

void HttpServer::stop(double grace_s) {
  asio::post(impl_->context, [impl = impl_, grace_s] { impl->stop(grace_s); });
}

}  // namespace inoculum

// NOLINTEND(bugprone-unused-return-value)
