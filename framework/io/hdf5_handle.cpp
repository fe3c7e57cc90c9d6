#include "framework/io/hdf5_handle.h"

#include <string_view>

namespace lexring {
namespace {

/// The innermost entry of HDF5's error stack says what happened; the outer ones say who noticed.
herr_t take_innermost(unsigned n, const H5E_error2_t* entry, void* out) {
  if (n == 0 && entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
  return 0;
}

/// Of a failed read or write HDF5 tells times, descriptors and addresses; the system's own message is the part for
/// people.
constexpr std::string_view mark = "error message = '";
std::string shorten(const std::string& description) {
  const auto begin = description.find(mark);
  if (begin == std::string::npos) return description;
  const auto end = description.find('\'', begin + mark.size());
  return description.substr(begin + mark.size(), end - begin - mark.size());
}

/// A lock, or the mark that a program with the file open for writing leaves in it, also when it is killed.
bool held_by_another(const std::string& description) {
  return description.find("unable to lock file") != std::string::npos ||
         description.find("file is already open") != std::string::npos;
}

std::string advice(const std::string& reason) {
  if (reason.find("No space left") != std::string::npos || reason.find("quota") != std::string::npos) {
    return "; free some space or choose another directory";
  }
  if (reason.find("File too large") != std::string::npos)
    return "; raise the file size limit (ulimit -f) or choose another file system";
  if (reason.find("Read-only file system") != std::string::npos ||
      reason.find("Permission denied") != std::string::npos) {
    return "; choose a directory that may be written";
  }
  if (reason.find("truncated file") != std::string::npos) return "; the file is incomplete: write or copy it again";
  return "";
}

}  // namespace

std::mutex& hdf5_mutex() {
  // HDF5's own clean-up at exit crashes when a file could not be flushed (a full disk). Every file here is closed by
  // its owner, so there is nothing for it to do. It must be told before its first call.
  static const bool told = H5dont_atexit() >= 0;
  static std::mutex mutex;
  static_cast<void>(told);
  return mutex;
}

void throw_hdf5_error(const std::string& subject, const char* call, const char* source, int line) {
  std::string description;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &description);
  H5Eclear2(H5E_DEFAULT);
  const std::string reason = description.empty() ? "HDF5 gave no reason" : shorten(description);
  const std::string place = fmt::format("[{} at {}:{}]", call, std::filesystem::path(source).filename().string(), line);
  if (held_by_another(description)) {
    throw Hdf5Unavailable(
        fmt::format("{}: another program holds it locked or open for writing ({}); wait until that has closed it {}",
                    subject, reason, place));
  }
  const std::string message = fmt::format("{}: {}{} {}", subject, reason, advice(reason), place);
  if (description.find(mark) != std::string::npos) throw Hdf5Unavailable(message);
  throw Error(message);
}

std::size_t size_of(H5Type type) {
  switch (type) {
    case H5Type::u8:
      return 1;
    case H5Type::bf16:
    case H5Type::u16:
      return 2;
    case H5Type::f32:
    case H5Type::i32:
    case H5Type::u32:
      return 4;
    default:
      return 8;
  }
}

Hdf5Handle hdf5_type(H5Type type) {
  const auto copy = [](hid_t of) { return Hdf5Handle(LEXRING_HDF5_CALL("HDF5 type", H5Tcopy(of)), H5Tclose); };
  switch (type) {
    case H5Type::f32:
      return copy(H5T_IEEE_F32LE);
    case H5Type::f64:
      return copy(H5T_IEEE_F64LE);
    case H5Type::i32:
      return copy(H5T_STD_I32LE);
    case H5Type::i64:
      return copy(H5T_STD_I64LE);
    case H5Type::u16:
      return copy(H5T_STD_U16LE);
    case H5Type::u32:
      return copy(H5T_STD_U32LE);
    case H5Type::u64:
      return copy(H5T_STD_U64LE);
    case H5Type::u8:
      return copy(H5T_STD_U8LE);
    case H5Type::bf16:
      break;
  }
  Hdf5Handle bf16 = copy(H5T_IEEE_F32LE);
  LEXRING_HDF5_CALL("HDF5 type bf16",
                    H5Tset_fields(bf16, 15, 7, 8, 0, 7));  // sign, exponent (place, bits), mantissa (place, bits)
  LEXRING_HDF5_CALL("HDF5 type bf16", H5Tset_precision(bf16, 16));
  LEXRING_HDF5_CALL("HDF5 type bf16", H5Tset_size(bf16, 2));
  LEXRING_HDF5_CALL("HDF5 type bf16", H5Tset_ebias(bf16, 127));
  return bf16;
}

std::string Hdf5File::Impl::subject(const std::string& object) const {
  return path.string() + (object.empty() || object == "/" ? "" : ": " + object);
}

}  // namespace lexring
