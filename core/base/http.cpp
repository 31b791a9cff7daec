#include "core/base/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <random>
#include <thread>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/base/process.h"
#include "core/base/strings.h"
#include "core/base/version.h"

namespace inoculum {
namespace {

constexpr long kConnectSeconds = 20, kStallSeconds = 60, kRedirects = 10;
constexpr size_t kLargestBody = 64 << 20;
constexpr double kFirstPause = 0.5, kLongestPause = 60, kLongestRetryAfter = 120;

std::string lower(std::string_view text) {
  std::string all(text);
  for (char& c : all) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return all;
}

struct Transfer {
  const HttpRequest& request;
  HttpResponse response = {};
  std::exception_ptr thrown = {};
  bool ended = false;  // by the sink or by give_up
};

size_t on_header(char* bytes, size_t, size_t count, void* state) {
  HttpResponse& response = static_cast<Transfer*>(state)->response;
  const std::string_view line(bytes, count);
  if (line.starts_with("HTTP/")) {
    std::erase_if(response.headers,
                  [](const auto& header) { return !header.first.starts_with("x-"); });
    const size_t space = line.find(' ');
    response.status =
        space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space)).c_str());
  } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
    response.headers[lower(line.substr(0, colon))] = strip(line.substr(colon + 1));
  }
  return count;
}

size_t on_body(char* bytes, size_t, size_t count, void* state) {
  Transfer& transfer = *static_cast<Transfer*>(state);
  HttpResponse& response = transfer.response;
  if (transfer.request.sink && response.status >= 200 && response.status < 300) {
    try {
      if (transfer.request.sink(response, {bytes, count})) return count;
      transfer.ended = true;
    } catch (...) {
      transfer.thrown = std::current_exception();
    }
    return 0;
  }
  if (response.body.size() + count > kLargestBody) return 0;
  response.body.append(bytes, count);
  return count;
}

int on_progress(void* state, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  Transfer& transfer = *static_cast<Transfer*>(state);
  if (transfer.request.give_up && transfer.request.give_up()) transfer.ended = true;
  return transfer.ended;
}

// A page without its tags, with one space wherever there were some.
std::string text_of_page(std::string_view page) {
  std::string text;
  bool in_tag = false;
  for (const char c : page) {
    in_tag |= c == '<';
    const bool space = in_tag || c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (!space) text += c;
    else if (!text.empty() && text.back() != ' ') text += ' ';
    in_tag &= c != '>';
  }
  return text;
}

// FastAPI's list of what is wrong: [{"loc": ["body", "seed"], "msg": "Extra inputs …"}, …].
std::string words_of_list(const Json& list) {
  std::string words;
  for (const Json& each : list) {
    if (!each.is_object() || !each.contains("msg") || !each["msg"].is_string()) continue;
    if (!words.empty()) words += "; ";
    if (const auto place = each.find("loc");
        place != each.end() && place->is_array() && !place->empty() && place->back().is_string())
      words += place->back().get<std::string>() + ": ";
    words += each["msg"].get<std::string>();
  }
  return words;
}

// The words of a server about an error, in the shapes that OpenAI's, vLLM's, FastAPI's and the
// hub's have.
std::string words_of(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  std::string words;
  if (json.is_object()) {
    const Json& error = json.contains("error") ? json["error"] : json;
    if (error.is_string()) words = error.get<std::string>();
    for (const char* key : {"message", "detail"}) {
      if (!words.empty() || !error.is_object() || !error.contains(key)) continue;
      if (error[key].is_string()) words = error[key].get<std::string>();
      if (error[key].is_array()) words = words_of_list(error[key]);
    }
  }
  if (words.empty()) words = strip(body).starts_with('<') ? text_of_page(body) : body;
  words = valid_utf8(words);
  for (char& c : words) c = static_cast<unsigned char>(c) < ' ' || c == 127 ? ' ' : c;
  return start_of(strip(words), 300);
}

}  // namespace

bool HttpResponse::worth_retrying() const {
  if (!failure.empty()) return !definite;
  return status == 0 || status == 408 || status == 409 || status == 429 || status >= 500;
}

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

std::string HttpResponse::reason() const {
  if (!failure.empty()) return failure;
  const std::string words = words_of(body), moved = header("location");
  if (status >= 300 && status < 400 && !moved.empty())
    return "HTTP " + std::to_string(status) + ": the server has moved to " + moved;
  return "HTTP " + std::to_string(status) + (words.empty() ? "" : ": " + words);
}

struct HttpClient::Impl {
  CURL* curl = nullptr;
};

HttpClient::HttpClient() : impl_(std::make_unique<Impl>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  impl_->curl = ready == CURLE_OK ? curl_easy_init() : nullptr;
  if (!impl_->curl) throw Error("libcurl cannot be started");
}

HttpClient::~HttpClient() { curl_easy_cleanup(impl_->curl); }

namespace {

void set_limits(CURL* curl, const HttpRequest& request) {
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR,
                   lower(request.url).starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, request.json ? 0L : 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, kRedirects);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  if (request.timeout_s > 0) {
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout_s * 1000));
  } else {
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  }
}

void set_callbacks(CURL* curl, Transfer& transfer) {
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

// The curl program reads these variables; the library does not.
void set_certificates(CURL* curl) {
  std::string bundle = environment("CURL_CA_BUNDLE");
  if (bundle.empty()) bundle = environment("SSL_CERT_FILE");
  if (!bundle.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, bundle.c_str());
  if (const std::string folder = environment("SSL_CERT_DIR"); !folder.empty())
    curl_easy_setopt(curl, CURLOPT_CAPATH, folder.c_str());
}

using Headers = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

Headers headers_of(const HttpRequest& request) {
  std::vector<std::string> lines = request.headers;
  if (request.json) {
    lines.push_back("Content-Type: application/json");
    lines.push_back("Expect:");  // large bodies need not wait for a "100 Continue"
  }
  Headers headers(nullptr, curl_slist_free_all);
  for (const std::string& line : lines)
    headers.reset(curl_slist_append(headers.release(), line.c_str()));
  return headers;
}

// Failures that another try does not mend.
bool is_definite(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
         code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL ||
         code == CURLE_TOO_MANY_REDIRECTS || code == CURLE_WRITE_ERROR;
}

std::string failure_of(CURLcode code, const Transfer& transfer, const char* reason) {
  if (transfer.ended) return "was stopped";
  if (code == CURLE_WRITE_ERROR)
    return "the answer is larger than " + std::to_string(kLargestBody >> 20) + " MiB";
  if (code == CURLE_UNSUPPORTED_PROTOCOL)
    return "the server redirects to what is not " +
           transfer.request.url.substr(0, transfer.request.url.find(':'));
  if (code != CURLE_OK) return reason[0] ? reason : curl_easy_strerror(code);
  return "";
}

}  // namespace

HttpResponse HttpClient::send(const HttpRequest& request) {
  CURL* curl = impl_->curl;
  Transfer transfer{.request = request};
  char reason[CURL_ERROR_SIZE] = "";
  curl_easy_reset(curl);  // the connection stays
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, ("inoculum/" + version()).c_str());
  set_limits(curl, request);
  set_callbacks(curl, transfer);
  set_certificates(curl);
  // Compressed answers are unpacked, whether or not they were asked for. Files are taken as they
  // are, by ranges and hashes.
  if (!request.sink) curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
  const Headers headers = headers_of(request);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
  if (request.json) {
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.json->size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.json->c_str());
  }

  const CURLcode code = curl_easy_perform(curl);
  if (transfer.thrown) std::rethrow_exception(transfer.thrown);
  HttpResponse& response = transfer.response;
  response.connected = code != CURLE_COULDNT_RESOLVE_PROXY && code != CURLE_COULDNT_RESOLVE_HOST &&
                       code != CURLE_COULDNT_CONNECT;
  response.definite = !transfer.ended && is_definite(code);
  response.failure = failure_of(code, transfer, reason);
  return std::move(response);
}

double retry_pause(const HttpResponse& response, int64_t tries, double jitter) {
  double asked = 0;
  if (const std::string after = response.header("retry-after"); !after.empty()) {
    char* end = nullptr;
    asked = std::strtod(after.c_str(), &end);
    if (*end != 0) {
      const time_t date = curl_getdate(after.c_str(), nullptr);
      asked = date < 0 ? 0 : std::difftime(date, std::time(nullptr));
    }
    asked = asked > 0 ? std::min(asked, kLongestRetryAfter) : 0;  // not a number: 0
  }
  double longest = kFirstPause;
  for (int64_t i = 1; i < tries && longest < kLongestPause; ++i) longest *= 2;
  return asked + jitter * std::min(longest, kLongestPause);
}

void pause_before_retry(const HttpResponse& response, int64_t tries, bool (*give_up)()) {
  using Clock = std::chrono::steady_clock;
  thread_local std::mt19937_64 random{std::random_device()()};
  const double jitter = std::uniform_real_distribution<>(0, 1)(random);
  const auto end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(
                         std::chrono::duration<double>(retry_pause(response, tries, jitter)));
  while (!give_up() && Clock::now() < end)
    std::this_thread::sleep_for(
        std::min<Clock::duration>(end - Clock::now(), std::chrono::milliseconds(50)));
}

std::optional<std::string> secret_from_environment(const std::string& variable) {
  const std::string value = environment(variable.c_str()), secret(strip(value));
  for (const char c : secret)
    if (c <= ' ' || c > '~')
      throw Error("holds a character that no key has",
                  {.field = "environment variable " + variable});
  return secret.empty() ? std::nullopt : std::optional(secret);
}

std::string url_encode(std::string_view text) {
  std::string all;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
        c == '.' || c == '_' || c == '~') {
      all += c;
    } else {
      all += '%';
      all += "0123456789ABCDEF"[byte >> 4];
      all += "0123456789ABCDEF"[byte & 15];
    }
  }
  return all;
}

}  // namespace inoculum
