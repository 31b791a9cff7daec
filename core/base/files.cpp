#include "core/base/files.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "core/base/error.h"

namespace inoculum {
namespace {

[[noreturn]] void fail(const std::string& verb, const fs::path& path, int code) {
  std::string hint;
  if (code == ENOSPC) hint = "free some space, or set `output` to another disk";
  if (code == EACCES || code == EROFS)
    hint = "check the permissions, or set `output` to a folder you can write to";
  if (code == ENOENT)
    hint = "check the path; relative paths start at the folder you are in, " +
           fs::current_path().string();
  throw Error("cannot " + verb + ": " + std::strerror(code), {.file = path.string()}, hint);
}

fs::path temporary_beside(const fs::path& path) {
  return path.parent_path() /
         ("." + path.filename().string() + ".tmp" + std::to_string(::getpid()));
}

// Calls `use` with the file's bytes, a block at a time.
void read_blocks(const fs::path& path, const std::function<void(std::string_view)>& use) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) fail("read", path, errno);
  std::vector<char> buffer(1 << 16);
  while (true) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", path, errno);
    if (count == 0) return;
    use({buffer.data(), static_cast<size_t>(count)});
  }
}

// Where byte `at` of a text lies; the text itself begins at `begin`.
Where place_of(size_t at, std::string_view text, const Where& begin) {
  const std::string_view before = text.substr(0, at);
  const auto lines = std::count(before.begin(), before.end(), '\n');
  return {begin.file, std::max(1, begin.line) + static_cast<int>(lines), begin.field};
}

}  // namespace

void refuse_lfs_pointer(std::string_view text, const fs::path& path) {
  if (text.starts_with("version https://git-lfs"))
    throw Error("this is a Git LFS pointer, not the file itself",
                {.file = path.string(), .line = 1}, "run `git lfs pull`");
}

std::string read_file(const fs::path& path) {
  std::string bytes;
  read_blocks(path, [&](std::string_view block) { bytes += block; });
  return bytes;
}

fs::path without_slash(const fs::path& path) {
  return path.has_filename() || !path.has_relative_path() ? path : path.parent_path();
}

void replace_atomically(const fs::path& target, const std::function<void(const fs::path&)>& write) {
  fs::path path = without_slash(target);
  std::error_code error;
  // What a link names is replaced.
  if (fs::is_symlink(path, error)) path = fs::weakly_canonical(fs::absolute(path));
  error.clear();
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  if (error) fail("create the folder", path.parent_path(), error.value());
  const fs::path temporary = temporary_beside(path);
  fs::remove_all(temporary, error);
  try {
    write(temporary);
    if (fs::is_directory(temporary) && fs::exists(path)) {
      // rename() does not replace a folder that holds something.
      if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0) {
        fs::remove_all(temporary);
        return;
      }
      const fs::path old = temporary.string() + ".old";
      fs::rename(path, old);
      fs::rename(temporary, path);
      fs::remove_all(old);
    } else {
      fs::rename(temporary, path);
    }
  } catch (const fs::filesystem_error& failure) {
    fs::remove_all(temporary, error);
    fail("write", path, failure.code().value());
  } catch (...) {
    fs::remove_all(temporary, error);
    throw;
  }
}

void write_file(const fs::path& path, std::string_view bytes) {
  write_file(path, std::vector<std::string_view>{bytes});
}

void write_file(const fs::path& path, const std::vector<std::string_view>& parts) {
  const auto write_to = [&](const fs::path& file) {
    Descriptor out(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!out) fail("write", path, errno);
    for (const std::string_view bytes : parts)
      if (!out.write(bytes)) fail("write", path, errno);
    return out;
  };
  // A device or a pipe, such as /dev/stdout, is written to and not replaced.
  if (fs::is_other(fs::status(path))) return static_cast<void>(write_to(path));
  replace_atomically(path, [&](const fs::path& temporary) {
    if (::fsync(write_to(temporary).get()) != 0) fail("write", path, errno);
  });
}

void refuse_deep_json(std::string_view text, const Where& begin) {
  size_t depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"')
      for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\';
    else if (text[i] == '[' || text[i] == '{') ++depth;
    else if ((text[i] == ']' || text[i] == '}') && depth > 0) --depth;
    if (depth > 500)
      throw Error("is nested more than 500 deep", place_of(i, text, begin),
                  "no data of this kind is");
  }
}

bool DoubleKeys::found(Json::parse_event_t event, const Json& value) {
  using Event = Json::parse_event_t;
  if (event == Event::object_end || event == Event::array_end) {
    levels_.pop_back();
  } else if (event == Event::key) {
    Level& here = levels_.back();
    here.key = value.get_ref<const std::string&>();
    return !here.keys.insert(here.key).second;
  } else {
    if (!levels_.empty()) ++levels_.back().items;
    if (event != Event::value) levels_.push_back({.is_list = event == Event::array_start});
  }
  return false;
}

std::string DoubleKeys::path() const {
  std::string path;
  for (const Level& level : levels_)
    path += level.is_list ? "[" + std::to_string(level.items - 1) + "]"
                          : (path.empty() ? "" : ".") + level.key;
  return path;
}

namespace {

// The keys that a text is written with: its colons outside texts. Nothing where it holds comments,
// which may hold colons too.
std::optional<size_t> keys_written(std::string_view text) {
  size_t keys = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '/') return std::nullopt;
    keys += text[i] == ':';
    if (text[i] != '"') continue;
    const auto is_escaped = [&](size_t at) {
      size_t slashes = 0;
      while (text[at - 1 - slashes] == '\\') ++slashes;
      return slashes % 2 == 1;
    };
    do i = std::min(text.find('"', i + 1), text.size());
    while (i < text.size() && is_escaped(i));
  }
  return keys;
}
size_t keys_read(const Json& value) {
  size_t keys = value.is_object() ? value.size() : 0;
  if (value.is_structured())
    for (const Json& each : value) keys += keys_read(each);
  return keys;
}

}  // namespace

// For most texts counting the keys is enough, which costs little beside the parser.
void refuse_given_twice(std::string_view text, const Json& json, const Where& where) {
  if (keys_written(text) == keys_read(json)) return;
  DoubleKeys keys;
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (keys.found(event, value))
      throw Error("the key is given twice", {where.file, where.line, keys.path()},
                  "remove one of them");
    return true;
  };
  const Json unused = Json::parse(text, watch, true, true);
}

void fail_json(const std::exception& failure, std::string_view text, const Where& begin,
               const std::string& what, const std::string& hint) {
  std::string why = failure.what();
  size_t at = 0;
  if (const auto* syntax = dynamic_cast<const nlohmann::detail::parse_error*>(&failure)) {
    at = std::min(syntax->byte, text.size());
    for (const std::string_view word : {"NaN", "Infinity", "-Infinity"})
      for (const size_t from : {at - 1, at - 2})
        if (from < text.size() && text.substr(from).starts_with(word))
          why = std::string(word) + " is not JSON: write null";
  } else if (const size_t quote = why.find('\'');
             why.find("number overflow") != std::string::npos && quote != std::string::npos) {
    const std::string number = why.substr(quote + 1, why.rfind('\'') - quote - 1);
    at = std::min(text.find(number), text.size());
    why = "the number " + number.substr(0, 40) +
          " is too large: write null, or a number within range";
  }
  throw Error(what, place_of(at, text, begin), hint.empty() ? why : hint + "; " + why);
}

template <class T>
T parse_json(std::string_view text, const fs::path& path) {
  refuse_lfs_pointer(text, path);
  refuse_deep_json(text, {.file = path.string()});
  try {
    return T::parse(text);
  } catch (const nlohmann::detail::exception& failure) {
    fail_json(failure, text, {.file = path.string()}, "this is not JSON");
  }
}
template Json parse_json(std::string_view, const fs::path&);
template nlohmann::json parse_json(std::string_view, const fs::path&);

Json read_json(const fs::path& path) { return parse_json(read_file(path), path); }

std::string one_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool is_whole(const Json& value, int64_t least, int64_t most) {
  return value.is_number_integer() && value.get<double>() >= static_cast<double>(least) &&
         value.get<double>() <= static_cast<double>(most);
}

void write_json(const fs::path& path, const Json& value) {
  write_file(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void write_jsonl(const fs::path& path, const std::vector<Json>& rows) {
  std::string text;
  for (const auto& row : rows) text += one_line(row) + "\n";
  write_file(path, text);
}

void read_jsonl(const fs::path& path, const std::function<void(const Json&, int)>& row) {
  const std::string text = read_file(path);
  std::string_view rest = text;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  refuse_lfs_pointer(rest, path);
  int rows = 0;
  for (int line = 1; !rest.empty(); ++line) {
    const size_t end = rest.find('\n');
    std::string_view one = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Json value;
    refuse_deep_json(one, {.file = path.string(), .line = line});
    try {
      value = Json::parse(one);
      refuse_given_twice(one, value, {.file = path.string(), .line = line});
    } catch (const Json::exception& failure) {
      fail_json(failure, one, {.file = path.string(), .line = line}, "this line is not JSON",
                "each line must be one whole JSON object");
    }
    row(value, line);
    ++rows;
  }
  if (rows == 0)
    throw Error("the file holds no rows", {.file = path.string()},
                "expected JSON Lines: one object a line");
}

namespace {

// What a lock is answered with by a file system, or a kernel, that has none.
bool means_no_locks(int code) {
  return code == ENOLCK || code == ENOSYS || code == EOPNOTSUPP || code == EINVAL;
}

constexpr const char* kWhereLocksAre =
    "another folder on a disk that has them, such as a local or a scratch disk, or the mount "
    "option (Lustre: flock; NFS: its lock daemon, or local_lock=all where one machine alone uses "
    "it)";

// Said once, and not for every cell of a sweep.
void warn_of_no_locks(const fs::path& path, int code) {
  static std::atomic<bool> said = false;
  if (said.exchange(true)) return;
  std::fprintf(stderr,
               "warning: the file system of %s has no locks (%s): whether another process is at "
               "work there can't be told, so start one at a time; what would help: %s\n",
               path.parent_path().c_str(), std::strerror(code), kWhereLocksAre);
}

}  // namespace

std::optional<FileLock> FileLock::try_take(const fs::path& path, bool safe_without) {
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  if (error) fail("create the folder", path.parent_path(), error.value());
  FileLock lock(Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)));
  if (!lock.file_) fail("write", path, errno);
  struct flock whole{};
  whole.l_type = F_WRLCK;
  if (::fcntl(lock.file_.get(), F_OFD_SETLK, &whole) == 0) return lock;
  const int code = errno;
  if (code == EAGAIN || code == EACCES) return std::nullopt;
  if (!means_no_locks(code)) fail("lock", path, code);
  if (!safe_without)
    throw Error(
        std::string("cannot lock: ") + std::strerror(code) + ": this file system has no locks",
        {.file = path.string()},
        std::string("without them several processes would do the same work; use ") +
            kWhereLocksAre);
  warn_of_no_locks(path, code);
  return lock;
}

// Asked without taking it, if only for a moment: whoever wants it just then would find it held.
std::optional<bool> FileLock::is_held(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return false;
  struct flock whole{};
  whole.l_type = F_WRLCK;
  if (::fcntl(file.get(), F_OFD_GETLK, &whole) == 0) return whole.l_type != F_UNLCK;
  if (const int code = errno; means_no_locks(code)) warn_of_no_locks(path, code);
  return std::nullopt;
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) { reset(); }
void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }
void Sha256::reset() { EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr); }

void Sha256::add(std::string_view bytes) {
  EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned length = 0;
  EVP_DigestFinal_ex(context_.get(), digest.data(), &length);
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.hex();
}

std::string sha256_file(const fs::path& path) {
  Sha256 hash;
  read_blocks(path, [&](std::string_view block) { hash.add(block); });
  return hash.hex();
}

}  // namespace inoculum
