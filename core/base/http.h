// One HTTP request at a time, through libcurl.
//
//   HttpClient client;                                    // keeps its connection; one a thread
//   const HttpResponse reply = client.send({.url = "https://host/v1/completions", .json = body});
//   if (reply.ok()) use(reply.body);
//   else if (reply.worth_retrying()) wait(retry_pause(reply, tries, random), stop_requested);
//
// What the network does is a value, for callers retry it: no answer is status 0 with the reason in
// `failure`. Certificates are always checked. Proxies are taken from the usual variables
// (https_proxy, no_proxy, …), and the authorities that are trusted from CURL_CA_BUNDLE or
// SSL_CERT_FILE and SSL_CERT_DIR where they are set.
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

struct HttpResponse {
  int status = 0;  // of the last answer; 0: there was none
  // Of the last answer, and X-… ones of redirects before it; names in lower case.
  std::map<std::string, std::string> headers;
  std::string body;        // unpacked, where it came compressed
  std::string failure;     // why the transfer did not end well; it may have a status nevertheless
  bool connected = false;  // the server was reached
  // The failure is one that no other try mends: a certificate, a redirect that is not followed.
  bool definite = false;

  bool ok() const { return failure.empty() && status >= 200 && status < 300; }
  bool worth_retrying() const;  // a cut connection, a time-out, 408, 409, 429 or 5xx
  std::string header(const std::string& lower_case_name) const;
  // "HTTP 404: …the server's words…", where a redirect leads, or the failure.
  std::string reason() const;
};

struct HttpRequest {
  std::string url;  // http or https
  // "Name: value"; Authorization is not passed on to another host.
  std::vector<std::string> headers = {};
  // Posted; without it the request is a GET, and follows redirects (never from https to http).
  std::optional<std::string> json = {};
  double timeout_s = 0;         // for the whole of it; 0: as long as bytes arrive, one a minute
  bool (*give_up)() = nullptr;  // asked about once a second; true ends the transfer
  // Takes the body of a 2xx answer as it arrives; false ends the transfer. What it throws comes out
  // of send().
  std::function<bool(const HttpResponse& head, std::string_view bytes)> sink = {};
};

class HttpClient {
 public:
  HttpClient();
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpResponse send(const HttpRequest& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Seconds to wait before the try after `tries` failed ones: what Retry-After asks for, two minutes
// at most, and a part `jitter` (0…1) of a time that doubles from half a second to a minute.
double retry_pause(const HttpResponse& response, int64_t tries, double jitter);
// Waits so long, with a jitter of its own, or until `give_up` says so.
void pause_before_retry(const HttpResponse& response, int64_t tries, bool (*give_up)());

// A secret from the environment: without the line end that files leave. Nothing where the variable
// is unset or empty. An Error (which does not show it) where it cannot stand in a header.
std::optional<std::string> secret_from_environment(const std::string& variable);

std::string url_encode(std::string_view text);  // all but letters, digits and -._~

}  // namespace inoculum
