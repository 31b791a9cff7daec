#include "core/model/hub.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include "core/base/error.h"
#include "core/base/http.h"
#include "core/base/progress.h"

namespace inoculum {
namespace {

constexpr int64_t kRetries = 6;  // without a single new byte between them
constexpr const char *kNote = ".fetched.json", *kLock = ".fetch.lock";

[[noreturn]] void fail(const std::string& verb, const fs::path& path) {
  const int code = errno;
  std::string hint;
  if (code == ENOSPC) hint = "free some space and call again: it goes on where it was";
  if (code == EACCES || code == EROFS)
    hint = "check the permissions, or name another output folder";
  throw Error("cannot " + verb + ": " + std::strerror(code), {.file = path.string()}, hint);
}

// A file under way: what is written is hashed.
class Part {
 public:
  explicit Part(fs::path path)
      : path_(std::move(path)), file_(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (!file_) fail("write", path_);
    std::string buffer(1 << 20, '\0');
    while (true) {
      const ssize_t got = ::read(file_.get(), buffer.data(), buffer.size());
      if (got < 0) fail("read", path_);
      if (got == 0) break;
      hash_.add({buffer.data(), static_cast<size_t>(got)});
      size_ += got;
    }
  }

  int64_t size() const { return size_; }
  std::string hash() { return hash_.hex(); }
  void clear() {
    if (::ftruncate(file_.get(), 0) != 0 || ::lseek(file_.get(), 0, SEEK_SET) != 0)
      fail("write", path_);
    size_ = 0;
    hash_.reset();
  }
  void remove() {
    clear();
    fs::remove(path_);
  }
  void append(std::string_view bytes) {
    if (!file_.write(bytes)) fail("write", path_);
    hash_.add(bytes);
    size_ += static_cast<int64_t>(bytes.size());
  }
  void finish(const fs::path& target) {
    if (::fsync(file_.get()) != 0 || ::rename(path_.c_str(), target.c_str()) != 0)
      fail("write", target);
  }

 private:
  fs::path path_;
  Descriptor file_;
  int64_t size_ = 0;
  Sha256 hash_;
};

bool is_hex(const std::string& text, size_t length) {
  return text.size() == length && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string unquoted(std::string etag) {
  if (etag.starts_with("W/")) etag.erase(0, 2);
  std::erase(etag, '"');
  return etag;
}

// What the server calls the file: of a large one, which another host serves, the hub's own name
// (its SHA-256) counts.
std::string etag_of(const HttpResponse& head) {
  const std::string linked = unquoted(head.header("x-linked-etag"));
  return linked.empty() ? unquoted(head.header("etag")) : linked;
}

int64_t number_or(const std::string& text, int64_t otherwise) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    return otherwise;
  return std::stoll(text);
}

// The whole file's size as an answer tells it, −1 where it does not, and the place of the answer's
// first byte.
struct Extent {
  int64_t begin = 0, size = -1;
};
Extent extent_of(const HttpResponse& head) {
  Extent extent;
  if (head.status == 206) {  // "bytes 100-199/200"
    const std::string range = head.header("content-range");
    const size_t space = range.find(' '), dash = range.find('-'), slash = range.find('/');
    if (space < dash && dash < slash && slash != std::string::npos) {
      extent.begin = number_or(range.substr(space + 1, dash - space - 1), -1);
      extent.size = number_or(range.substr(slash + 1), -1);
    } else {
      extent.begin = -1;
    }
  } else if (head.header("content-encoding").empty()) {
    extent.size = number_or(head.header("content-length"), -1);
  }
  const int64_t linked = number_or(head.header("x-linked-size"), -1);
  return {extent.begin, linked >= 0 && extent.size < 0 ? linked : extent.size};
}

struct Wanted {
  std::string name;
  int64_t size = -1;     // −1: the hub's list does not tell
  std::string identity;  // of the contents, in the hub's list: SHA-256 of a large file, Git's hash
                         // of another; empty: not told
  std::string sha256;
};

// A file under way: what is there of it, and what the server said that it is.
struct Download {
  const Wanted& file;
  fs::path target;
  Part part;
  std::string etag = {};
  int64_t size = -1;           // −1: not known
  bool from_the_start = true;  // nothing in it is of an earlier call

  bool is_whole() const { return part.size() > 0 && part.size() == size; }
};

class Fetch {
 public:
  explicit Fetch(const FetchConfig& config);
  Fetched run();

 private:
  HttpResponse get(const std::string& url);
  [[noreturn]] void refuse(const HttpResponse& response, const std::string& what) const;
  std::vector<Wanted> list();
  HttpRequest request_to(const std::string& url) const;
  bool is_of(const Json& known, const Wanted& file) const;
  Download open(const Wanted& file) const;
  void remember(const Download& download, bool whole);
  bool continues(Download& download, const HttpResponse& head);
  HttpResponse get_rest(Download& download);
  bool complete(Download& download);
  bool fetch(const Wanted& file);  // false: a stop was asked for
  void read_note();
  void remove_others(const std::vector<Wanted>& wanted);
  std::vector<const Wanted*> missing(const std::vector<Wanted>& wanted);
  bool is_here(const Wanted& file) const;
  std::string hidden(std::string text) const;
  void show(int64_t in_file, const std::string& name);

  FetchConfig config_;
  fs::path folder_;
  std::string token_;
  HttpClient client_;
  Json note_;
  Fetched result_;
  std::optional<Progress> progress_;
  int64_t total_ = 0,
          whole_ =
              0;  // bytes of all files and of those that are done, as far as the hub's list tells
};

Fetch::Fetch(const FetchConfig& config) : config_(config) {
  const std::string& repo = config_.repo;
  const size_t slash = repo.find('/');
  const std::string name = slash == std::string::npos ? repo : repo.substr(slash + 1);
  const bool plain = repo.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/") ==
                     std::string::npos;
  if (!plain || name.empty() || slash == 0 || name.find('/') != std::string::npos ||
      repo.find("..") != std::string::npos || name == ".")
    throw Error("\"" + repo + "\" is no name of a model", {.field = "repo"},
                "owner/name, such as Qwen/Qwen2.5-0.5B-Instruct");
  if (config_.revision.empty())
    throw Error("is empty", {.field = "revision"}, "a branch, tag or commit, such as main");
  while (config_.endpoint.ends_with('/')) config_.endpoint.pop_back();
  if ((!config_.endpoint.starts_with("https://") && !config_.endpoint.starts_with("http://")) ||
      config_.endpoint.find_first_of("@?# \n") != std::string::npos)
    throw Error("is no address of a server", {.field = "endpoint"},
                "such as https://huggingface.co");
  folder_ = config_.output.empty() ? name : config_.output;
  token_ = secret_from_environment("HF_TOKEN").value_or("");
}

std::string Fetch::hidden(std::string text) const {
  if (!token_.empty())
    for (size_t at; (at = text.find(token_)) != std::string::npos;)
      text.replace(at, token_.size(), "…");
  return text;
}

void Fetch::refuse(const HttpResponse& response, const std::string& what) const {
  const std::string code = response.header("x-error-code"), model = "\"" + config_.repo + "\"";
  const Where where{.field = what};
  const std::string reason = hidden(response.status >= 400 && response.failure.empty() &&
                                            !response.header("x-error-message").empty()
                                        ? "HTTP " + std::to_string(response.status) + ": " +
                                              response.header("x-error-message")
                                        : response.reason());
  if (code == "GatedRepo" || (response.status == 403 && token_.size()))
    throw Error("the model " + model + " is gated or closed to you (" + reason + ")", where,
                "accept its terms at " + config_.endpoint + "/" + config_.repo +
                    ", and set HF_TOKEN to a token that may read it");
  if (response.status == 401 || response.status == 403)
    throw Error("there is no model " + model + ", or it is not public (" + reason + ")", where,
                token_.empty() ? "check the name; for a gated or private one set HF_TOKEN"
                               : "check the name; HF_TOKEN is set, but does not open it");
  if (code == "RevisionNotFound")
    throw Error(
        "the model " + model + " has no revision \"" + config_.revision + "\" (" + reason + ")",
        where, "a branch, tag or commit, such as main");
  if (response.status == 404)
    throw Error("there is no model " + model + " with the revision \"" + config_.revision + "\" (" +
                    reason + ")",
                where, "check both names");
  throw Error("cannot be fetched: " + reason, where,
              response.connected ? "call again: it goes on where it was"
                                 : "check the network and the proxy (https_proxy)");
}

HttpResponse Fetch::get(const std::string& url) {
  HttpRequest request = request_to(url);
  request.timeout_s = 60;
  for (int64_t tries = 1;; ++tries) {
    HttpResponse response = client_.send(request);
    if (response.ok() || !response.worth_retrying() ||
        tries > (response.connected ? kRetries : 2) || stop_requested())
      return response;
    pause_before_retry(response, tries, stop_requested);
  }
}

std::vector<Wanted> Fetch::list() {
  const std::string url = config_.endpoint + "/api/models/" + config_.repo + "/revision/" +
                          url_encode(config_.revision) + "?blobs=true";
  const HttpResponse response = get(url);
  if (stop_requested()) return {};
  if (!response.ok()) refuse(response, config_.repo);
  const Json json = Json::parse(response.body, nullptr, false);
  const Error strange("the server's list of files is not as a hub's", {.field = url},
                      "check the endpoint");
  if (!json.is_object() || !json.contains("sha") || !json["sha"].is_string() ||
      !json.contains("siblings") || !json["siblings"].is_array())
    throw strange;
  result_.sha = json["sha"].get<std::string>();
  if (!is_hex(result_.sha, 40)) throw strange;
  std::vector<std::string> names;
  std::map<std::string, Wanted> by_name;
  for (const Json& sibling : json["siblings"]) {
    if (!sibling.is_object() || !sibling.contains("rfilename") || !sibling["rfilename"].is_string())
      throw strange;
    Wanted file{.name = sibling["rfilename"].get<std::string>()};
    const auto text = [](const Json& from, const char* key) {
      return from.contains(key) && from[key].is_string() ? from[key].get<std::string>() : "";
    };
    if (sibling.contains("size") && sibling["size"].is_number_unsigned())
      file.size = sibling["size"].get<int64_t>();
    file.identity = text(sibling, "blobId");
    if (sibling.contains("lfs") && sibling["lfs"].is_object())
      file.sha256 = text(sibling["lfs"], "sha256");
    if (!file.sha256.empty()) file.identity = file.sha256;
    names.push_back(file.name);
    by_name[file.name] = std::move(file);
  }
  std::vector<Wanted> wanted;
  for (const std::string& name : files_to_fetch(names, config_.repo))
    wanted.push_back(by_name[name]);
  return wanted;
}

bool Fetch::is_here(const Wanted& file) const {
  if (!note_["files"].contains(file.name)) return false;
  const Json& known = note_["files"][file.name];
  std::error_code error;
  const auto size = fs::file_size(folder_ / file.name, error);
  if (error || !known.value("whole", false) ||
      known.value("size", int64_t{-1}) != static_cast<int64_t>(size))
    return false;
  if (file.size >= 0 && file.size != static_cast<int64_t>(size)) return false;
  return is_of(known, file);
}

void Fetch::show(int64_t in_file, const std::string& name) {
  constexpr int64_t kMiB = 1 << 20;
  progress_->update(std::min(whole_ + in_file, total_) / kMiB, {{"file", name}});
}

HttpRequest Fetch::request_to(const std::string& url) const {
  HttpRequest request{.url = url, .give_up = stop_requested};
  if (!token_.empty()) request.headers.push_back("Authorization: Bearer " + token_);
  return request;
}

bool Fetch::is_of(const Json& known, const Wanted& file) const {
  return file.identity.empty() ? known.value("sha", "") == result_.sha
                               : known.value("identity", "") == file.identity;
}

// What an earlier call left is used where it is of the same file.
Download Fetch::open(const Wanted& file) const {
  const fs::path target = folder_ / file.name;
  Download download{file, target, Part(target.string() + ".part")};
  const Json known = note_["files"].value(file.name, Json());
  if (download.part.size() > 0 && known.is_object() && !known.value("whole", true) &&
      is_of(known, file)) {
    download.etag = known.value("etag", "");
    download.size = known.value("size", int64_t{-1});
  }
  if (download.etag.empty() || (!file.sha256.empty() && file.sha256 != download.etag) ||
      (download.size >= 0 && download.part.size() > download.size))
    download.part.clear();
  download.from_the_start = download.part.size() == 0;
  return download;
}

void Fetch::remember(const Download& download, bool whole) {
  note_["files"][download.file.name] = {{"whole", whole},
                                        {"sha", result_.sha},
                                        {"etag", download.etag},
                                        {"size", download.size},
                                        {"identity", download.file.identity}};
  write_json(folder_ / kNote, note_);
}

// On the first bytes of an answer: whether they are of the file under way. An answer with the whole
// file begins it anew.
bool Fetch::continues(Download& download, const HttpResponse& head) {
  const Extent extent = extent_of(head);
  if (head.status == 206)
    return download.part.size() > 0 && extent.begin == download.part.size() &&
           etag_of(head) == download.etag && (download.size < 0 || extent.size == download.size);
  const int64_t listed = download.file.size;
  download.part.clear();
  download.from_the_start = true;
  download.etag = etag_of(head);
  download.size = extent.size >= 0 ? extent.size : listed;
  if (listed >= 0 && download.size != listed)
    throw Error("the server sends " + std::to_string(download.size) + " bytes, its list says " +
                    std::to_string(listed),
                {.file = download.target.string()}, "call again");
  remember(download, false);
  return true;
}

// One try. The response is ok() where the file is whole.
HttpResponse Fetch::get_rest(Download& download) {
  if (download.etag.empty()) download.part.clear();  // the rest may be of another file
  HttpRequest request = request_to(config_.endpoint + "/" + config_.repo + "/resolve/" +
                                   result_.sha + "/" + url_encode(download.file.name));
  if (download.part.size() > 0)
    request.headers.push_back("Range: bytes=" + std::to_string(download.part.size()) + "-");
  std::optional<bool> same;  // the file under way; unknown before the first bytes
  request.sink = [&](const HttpResponse& head, std::string_view bytes) {
    if (!same) same = continues(download, head);
    if (!*same) return false;
    download.part.append(bytes);
    result_.bytes += static_cast<int64_t>(bytes.size());
    show(download.part.size(), download.file.name);
    return true;
  };
  HttpResponse response = client_.send(request);
  if (stop_requested()) return response;
  if (response.ok() && !same) same = continues(download, response);  // an empty file
  if (same == false || response.status == 416) {
    download.part.clear();
    download.etag.clear();
    download.size = -1;
    response.failure = "the server has another file by now";
  } else if (response.ok()) {
    if (download.size < 0) download.size = download.part.size();
    if (download.part.size() != download.size)
      response.failure = "the answer ends after " + std::to_string(download.part.size()) + " of " +
                         std::to_string(download.size) + " bytes";
  }
  return response;
}

// Tries until the file is whole; false: a stop was asked for.
bool Fetch::complete(Download& download) {
  int64_t farthest = download.part.size();
  for (int64_t tries = 0; !download.is_whole();) {
    const HttpResponse response = get_rest(download);
    if (stop_requested()) return false;
    if (response.ok()) break;
    if (download.part.size() > farthest) tries = 0;
    farthest = std::max(farthest, download.part.size());
    if (!response.worth_retrying() || ++tries > kRetries) refuse(response, download.file.name);
    pause_before_retry(response, tries, stop_requested);
    if (stop_requested()) return false;
  }
  return true;
}

bool Fetch::fetch(const Wanted& file) {
  Download download = open(file);
  if (!complete(download)) return false;
  const std::string expected = !file.sha256.empty()        ? file.sha256
                               : is_hex(download.etag, 64) ? download.etag
                                                           : "";
  if (const std::string found = expected.empty() ? "" : download.part.hash(); found != expected) {
    download.part.remove();
    note_["files"].erase(file.name);
    write_json(folder_ / kNote, note_);
    if (!download.from_the_start) return fetch(file);  // what was there before may be what is wrong
    throw Error("does not have the hash that the hub states: " + found + ", not " + expected,
                {.file = download.target.string()},
                "it was damaged on the way, or is not what it says; it was removed");
  }
  download.part.finish(download.target);
  remember(download, true);
  return true;
}

// The note of what earlier calls fetched into the folder, or a new one.
void Fetch::read_note() {
  const fs::path file = folder_ / kNote;
  const std::string source = config_.endpoint + "/" + config_.repo;
  if (!fs::exists(file)) {
    for (const auto& entry : fs::directory_iterator(folder_))
      if (entry.path().filename() != kLock)
        throw Error(
            "is not empty and was not fetched: it holds " + entry.path().filename().string(),
            {.file = folder_.string()}, "name another output folder");
    note_ = {{"from", source}, {"sha", result_.sha}, {"files", Json::object()}};
    return;
  }
  note_ = read_json(file);
  const Error strange("is not a note of what was fetched", {.file = file.string()},
                      "remove it and the files beside it");
  if (!note_.is_object() || !note_.contains("from") || !note_.contains("files") ||
      !note_["files"].is_object())
    throw strange;
  for (const Json& each : note_["files"])
    if (!each.is_object()) throw strange;
  if (note_["from"] != Json(source))
    throw Error("holds another model, " + note_["from"].dump(), {.file = folder_.string()},
                "name another output folder");
  note_["sha"] = result_.sha;
}

// What an earlier revision had and this one lacks.
void Fetch::remove_others(const std::vector<Wanted>& wanted) {
  std::set<std::string> names;
  for (const Wanted& file : wanted) names.insert(file.name);
  std::vector<std::string> gone;
  for (const auto& [name, known] : note_["files"].items())
    if (!names.contains(name)) gone.push_back(name);
  for (const std::string& name : gone) {
    std::error_code ignored;
    if (name.find('/') == std::string::npos)
      for (const char* end : {"", ".part"}) fs::remove(folder_ / (name + end), ignored);
    note_["files"].erase(name);
  }
  write_json(folder_ / kNote, note_);
}

// Those that are not here yet. Error where the disk has no space for them.
std::vector<const Wanted*> Fetch::missing(const std::vector<Wanted>& wanted) {
  int64_t bytes = 0;
  std::error_code error;
  std::vector<const Wanted*> files;
  for (const Wanted& file : wanted) {
    const int64_t size = std::max<int64_t>(file.size, 0);
    total_ += size;
    if (is_here(file)) {
      whole_ += size;
      result_.kept.push_back(file.name);
    } else {
      files.push_back(&file);
      const auto part = fs::file_size(folder_ / (file.name + ".part"), error);
      bytes += size - (error ? 0 : std::min(size, static_cast<int64_t>(part)));
    }
  }
  if (const auto space = fs::space(folder_, error);
      !error && space.available < static_cast<uintmax_t>(bytes))
    throw Error("there is no space for it: " + std::to_string(bytes >> 20) + " MiB are missing, " +
                    std::to_string(space.available >> 20) + " MiB are free",
                {.file = folder_.string()}, "free some space, or name another output folder");
  return files;
}

Fetched Fetch::run() {
  const std::vector<Wanted> wanted = list();
  result_.folder = folder_;
  result_.outcome = Outcome::stopped;
  if (stop_requested()) return result_;

  std::error_code error;
  fs::create_directories(folder_, error);
  if (error)
    throw Error("cannot create the folder: " + error.message(), {.file = folder_.string()},
                "name another output folder");
  const auto lock = FileLock::try_take(folder_ / kLock);
  if (!lock)
    throw Error("another process is fetching into this folder", {.file = folder_.string()},
                "wait for it, or name another output folder");
  read_note();
  remove_others(wanted);
  const std::vector<const Wanted*> files = missing(wanted);
  progress_.emplace("fetch MiB", total_ >> 20, whole_ >> 20);
  for (const Wanted* file : files) {
    if (stop_requested() || !fetch(*file)) return result_;
    whole_ += std::max<int64_t>(file->size, 0);
    result_.files.push_back(file->name);
  }
  progress_->finish();
  result_.outcome = files.empty() ? Outcome::already_done : Outcome::finished;
  return result_;
}

}  // namespace

void FetchConfig::fields(Fields& f) {
  f.value("repo", repo, "owner/name on the hub");
  f.value("revision", revision, "a branch, tag or commit");
  f.value("output", output, "the folder; empty: the repo's name");
  f.value("endpoint", endpoint, "the hub's address");
}

std::vector<std::string> files_to_fetch(const std::vector<std::string>& names,
                                        const std::string& repo) {
  const std::set<std::string> all(names.begin(), names.end());
  bool pickle = false, weights = false;
  const bool whole_model =
      all.contains("model.safetensors") || all.contains("model.safetensors.index.json");
  std::vector<std::string> wanted;
  for (const std::string& name : all) {
    if (name.empty() || name.starts_with('/') || name.find('\\') != std::string::npos ||
        name.find('\0') != std::string::npos ||
        ("/" + name + "/").find("/../") != std::string::npos)
      throw Error("the repo lists a file whose name leads out of the folder: \"" + name + "\"",
                  {.field = repo}, "nothing of it is fetched");
    if (name.find('/') != std::string::npos) continue;  // other formats and checkpoints under way
    const auto ends = [&](const char* end) { return name.ends_with(end); };
    if (ends(".bin") || ends(".pt") || ends(".pth") || ends(".ckpt") || ends(".pickle") ||
        ends(".pkl")) {
      pickle = true;
      continue;
    }
    // Some repos hold the same weights a second time, in their maker's own format.
    const bool tensors = ends(".safetensors") && !(whole_model && name.starts_with("consolidated"));
    weights = weights || tensors;
    static const std::set<std::string> exact = {"config.json",
                                                "generation_config.json",
                                                "tokenizer.model",
                                                "special_tokens_map.json",
                                                "added_tokens.json",
                                                "chat_template.json",
                                                "chat_template.jinja",
                                                "adapter_config.json",
                                                "README.md"};
    if (tensors || exact.contains(name) || ends(".safetensors.index.json") ||
        (name.starts_with("tokenizer") && ends(".json")) || name.starts_with("LICENSE") ||
        ((name == "vocab.json" || name == "merges.txt") && !all.contains("tokenizer.json")))
      wanted.push_back(name);
  }
  if (!weights)
    throw Error(pickle ? "\"" + repo +
                             "\" has its weights as pickles alone (.bin, .pt), which are never "
                             "fetched: loading one runs what is in it"
                       : "\"" + repo + "\" holds no safetensors",
                {.field = repo},
                pickle ? "look for a safetensors conversion: another revision (such as refs/pr/1) "
                         "or another repo"
                       : "check the name");
  // The large ones last: what is wrong with the small ones is seen early.
  std::stable_partition(wanted.begin(), wanted.end(),
                        [](const std::string& name) { return !name.ends_with(".safetensors"); });
  return wanted;
}

Fetched fetch_model(const FetchConfig& config) { return Fetch(config).run(); }

}  // namespace inoculum
