// Reading and writing whole files, so that nothing is ever left half-written.
//
// Writers put the text into a temporary file beside the target, flush it to the disk and rename it:
// a reader sees the old file or the new one, never a part. Every failure is an Error naming the
// file and the system's reason ("No space left on device").
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/descriptor.h"
#include "core/base/error.h"

struct evp_md_ctx_st;  // OpenSSL's

namespace inoculum {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

std::string read_file(const fs::path& path);
// Atomic; makes parent folders. The parts are written one after another.
void write_file(const fs::path& path, std::string_view bytes);
void write_file(const fs::path& path, const std::vector<std::string_view>& parts);
Json read_json(const fs::path& path);  // Error names file and line
// Refuses what Git keeps in place of a large file that was not fetched.
void refuse_lfs_pointer(std::string_view text, const fs::path& path);
// Refuses what is nested more than 500 deep, which the parser may lack the stack for; `begin` is
// where `text` begins.
void refuse_deep_json(std::string_view text, const Where& begin);
// Watches Json::parse, by its callback, for a key that an object has twice, of which the parser
// keeps the last.
class DoubleKeys {
 public:
  bool found(Json::parse_event_t event, const Json& value);  // whether this one is
  // Of the one that was found last: meta[2].b and b.
  std::string path() const;
  const std::string& key() const { return levels_.back().key; }

 private:
  struct Level {  // an object or a list that has begun
    bool is_list;
    size_t items = 0;
    std::set<std::string> keys = {};
    std::string key = {};  // the last one
  };
  std::vector<Level> levels_;
};
// Refuses such a key in `text`, which was read as `json`.
void refuse_given_twice(std::string_view text, const Json& json, const Where& where);
// Throws what the JSON parser found wrong with `text` as an Error in words, with its line.
[[noreturn]] void fail_json(const std::exception& failure, std::string_view text,
                            const Where& begin, const std::string& what,
                            const std::string& hint = {});
// A whole JSON text; what is wrong with it, be it a number too large to be one (1e999), is an Error
// that names the file and the line. T: Json, or nlohmann::json, whose objects are sorted maps.
template <class T = Json>
T parse_json(std::string_view text, const fs::path& path);
// JSON on one line, without a line's end; what is no UTF-8 in it becomes U+FFFD.
std::string one_line(const Json& value);
// Whether it is a whole number within these bounds. JSON's own conversion would cut 1.9 to 1, and
// what is too large to whatever is left of it.
bool is_whole(const Json& value, int64_t least, int64_t most);
void write_json(const fs::path& path, const Json& value);  // atomic, indented, final newline
void write_jsonl(const fs::path& path, const std::vector<Json>& rows);

// Calls `row(value, line)` for every non-empty line (lines count from 1). A line that is not JSON
// is an Error naming the line; so is a key that a row has twice, a Git LFS pointer in place of
// data, and a file without any row.
void read_jsonl(const fs::path& path, const std::function<void(const Json&, int)>& row);

// "runs/x" for "runs/x/", which has no name at its end.
fs::path without_slash(const fs::path& path);

// Runs `write(temporary)` and renames the temporary file or folder to `path` when it returned; on
// an exception the temporary is removed. A folder already at `path` is replaced, at once where the
// file system can exchange two names.
void replace_atomically(const fs::path& path, const std::function<void(const fs::path&)>& write);

// A file that one process at a time holds; let go when this is destroyed, and by the system when
// the process dies. Some file systems of clusters know no locks (NFS without lockd, Lustre mounted
// without flock). There a lock is taken that keeps nobody away, with a warning, or, where the work
// is not `safe_without`, an Error says what to do.
class FileLock {
 public:
  // Nothing: another holds it.
  static std::optional<FileLock> try_take(const fs::path& path, bool safe_without = true);
  static std::optional<bool> is_held(const fs::path& path);  // nothing: the file system can't tell

 private:
  explicit FileLock(Descriptor file) : file_(std::move(file)) {}
  Descriptor file_;
};

// SHA-256 of what arrives in pieces.
class Sha256 {
 public:
  Sha256();
  void add(std::string_view bytes);
  std::string hex();  // 64 hexadecimal digits; reset() before anything else is added
  void reset();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string sha256(std::string_view bytes);  // 64 hexadecimal digits
std::string sha256_file(const fs::path& path);

}  // namespace inoculum
