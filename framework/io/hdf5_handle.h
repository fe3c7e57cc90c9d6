/// What the sources of hdf5_file.h share: handles, checked calls, types. Not for anybody else: it shows hid_t.
#pragma once

#include <filesystem>
#include <mutex>
#include <string>
#include <utility>

#include <hdf5.h>

#include "framework/base/error.h"
#include "framework/io/hdf5_file.h"

namespace lexring {

/// Owns one HDF5 identifier. Moved from: holds nothing. Must be destroyed under hdf5_mutex().
class Hdf5Handle {
 public:
  using Closer = herr_t (*)(hid_t);
  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Closer close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  operator hid_t() const { return id_; }  // NOLINT(google-explicit-constructor)
  hid_t release() { return std::exchange(id_, -1); }

 private:
  hid_t id_ = -1;
  Closer close_ = nullptr;
};

/// Serial HDF5 keeps global state: every call in this process is made under this mutex.
std::mutex& hdf5_mutex();

/// Throws Error: `subject` (file and object), the library's innermost message, the failed call and its place.
[[noreturn]] void throw_hdf5_error(const std::string& subject, const char* call, const char* source, int line);

template <class Result>
Result check_hdf5(Result result, const std::string& subject, const char* call, const char* source, int line) {
  if (result < 0) throw_hdf5_error(subject, call, source, line);
  return result;
}

/// The result of an HDF5 call, or an Error that begins with `subject`.
#define LEXRING_HDF5_CALL(subject, call) ::lexring::check_hdf5(call, subject, #call, __FILE__, __LINE__)

/// The type as it is on disk and in memory (little-endian hosts only, as everywhere in this project).
Hdf5Handle hdf5_type(H5Type type);

struct Hdf5File::Impl {
  std::filesystem::path path;
  Mode mode;
  Hdf5Handle file;

  /// "runs/x.h5: dataset tokens", for messages.
  std::string subject(const std::string& object) const;
  Hdf5Handle open_dataset(const std::string& name) const;
  Hdf5Handle open_object(const std::string& name) const;
};

}  // namespace lexring
