/// HDF5 files behind move-only handles; no hid_t in sight. Serial HDF5; one thread at a time per process (a mutex
/// inside sees to it). Errors throw Error with file, object, and the library's own message. File locking is off, unless
/// HDF5_USE_FILE_LOCKING wants it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/error.h"
#include "framework/tensor/dtype.h"

namespace lexring {

/// Element types on disk. bf16 is a 16-bit HDF5 float that h5py reads as float32.
enum class H5Type { f32, f64, bf16, i32, i64, u16, u32, u64, u8 };
std::size_t size_of(H5Type type);

/// The file may be sound: the system or another program kept it from us (a lock, too many open files, a failing disk).
/// The message says which.
class Hdf5Unavailable : public Error {
 public:
  using Error::Error;
};

class Hdf5File {
 public:
  enum class Mode { read, create };  ///< create truncates
  Hdf5File(const std::filesystem::path& path, Mode mode);
  Hdf5File(Hdf5File&&) noexcept;  ///< the source is closed
  Hdf5File& operator=(Hdf5File&&) noexcept;
  ~Hdf5File();   ///< closes; errors on closing are reported by close(), not here
  void close();  ///< flushes and closes; throws

  const std::filesystem::path& path() const;
  bool exists(const std::string& object) const;
  /// Names of members of a group, in name order ("" or "/" is the root).
  std::vector<std::string> members(const std::string& group) const;
  bool is_group(const std::string& object) const;
  std::vector<std::int64_t> shape(const std::string& dataset) const;
  H5Type type(const std::string& dataset) const;
  /// Offset in the file of a contiguous, allocated dataset; nullopt otherwise.
  std::optional<std::uint64_t> contiguous_offset(const std::string& dataset) const;

  /// Creates intermediate groups. Writes all of `bytes`, which must hold exactly the dataset. Contiguous layout.
  void write(const std::string& dataset, H5Type type, const std::vector<std::int64_t>& shape,
             std::span<const std::byte> bytes);
  /// Creates without writing; rows are then written in parts with write_rows.
  void create(const std::string& dataset, H5Type type, const std::vector<std::int64_t>& shape);
  void write_rows(const std::string& dataset, std::int64_t first_row, std::int64_t rows,
                  std::span<const std::byte> bytes);
  /// Reads a block [offset, offset + shape) converted to `as`.
  void read(const std::string& dataset, H5Type as, const std::vector<std::int64_t>& offset,
            const std::vector<std::int64_t>& shape, std::span<std::byte> out) const;
  /// The whole dataset as a vector.
  template <class T>
  std::vector<T> read_all(const std::string& dataset) const;

  void write_attribute(const std::string& object, const std::string& name, const std::string& value);
  void write_attribute(const std::string& object, const std::string& name, std::int64_t value);
  void write_attribute(const std::string& object, const std::string& name, double value);
  bool has_attribute(const std::string& object, const std::string& name) const;
  std::string string_attribute(const std::string& object,
                               const std::string& name) const;  ///< fixed or variable length strings
  std::int64_t int_attribute(const std::string& object, const std::string& name) const;
  double double_attribute(const std::string& object, const std::string& name) const;
  std::vector<double> doubles_attribute(const std::string& object, const std::string& name) const;

  /// A virtual dataset stitched from pieces of other files (paths relative to this file), fill value NaN.
  struct VirtualPiece {
    std::string file;
    std::string dataset;
    std::vector<std::int64_t> offset;  ///< in the whole
    std::vector<std::int64_t> shape;   ///< of the piece, which is the whole source dataset
  };
  void write_virtual(const std::string& dataset, H5Type type, const std::vector<std::int64_t>& shape,
                     const std::vector<VirtualPiece>& pieces);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
