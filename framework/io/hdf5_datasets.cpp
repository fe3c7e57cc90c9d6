#include <algorithm>
#include <limits>

#include "framework/io/hdf5_handle.h"
#include "framework/tensor/tensor.h"

namespace lexring {
namespace {

using Lock = std::lock_guard<std::mutex>;
using Sizes = std::vector<hsize_t>;

Sizes to_sizes(const std::vector<std::int64_t>& shape) { return {shape.begin(), shape.end()}; }

Hdf5Handle make_space(const std::vector<std::int64_t>& shape, const std::string& subject) {
  for (std::int64_t size : shape) require(size >= 0, "{}: shape {} has a negative size", subject, to_string(shape));
  if (shape.empty()) return {LEXRING_HDF5_CALL(subject, H5Screate(H5S_SCALAR)), H5Sclose};
  const Sizes sizes = to_sizes(shape);
  return {LEXRING_HDF5_CALL(subject, H5Screate_simple(static_cast<int>(sizes.size()), sizes.data(), nullptr)),
          H5Sclose};
}

std::vector<std::int64_t> shape_of(hid_t dataset, const std::string& subject) {
  const Hdf5Handle space(LEXRING_HDF5_CALL(subject, H5Dget_space(dataset)), H5Sclose);
  if (H5Sget_simple_extent_type(space) == H5S_NULL) return {0};
  Sizes sizes(static_cast<std::size_t>(LEXRING_HDF5_CALL(subject, H5Sget_simple_extent_ndims(space))));
  LEXRING_HDF5_CALL(subject, H5Sget_simple_extent_dims(space, sizes.data(), nullptr));
  return {sizes.begin(), sizes.end()};
}

void require_bytes(std::size_t have, const std::vector<std::int64_t>& shape, H5Type type, const std::string& subject) {
  const std::size_t need = static_cast<std::size_t>(element_count(shape)) * size_of(type);
  require(have == need, "{}: {} bytes were given for shape {}, which needs {}", subject, have, to_string(shape), need);
}

/// The selection [offset, offset + shape) of a dataset, checked against its extent.
Hdf5Handle select(hid_t dataset, const std::vector<std::int64_t>& offset, const std::vector<std::int64_t>& shape,
                  const std::string& subject) {
  const auto whole = shape_of(dataset, subject);
  bool inside = offset.size() == whole.size() && shape.size() == whole.size();
  for (std::size_t i = 0; inside && i < whole.size(); ++i) {
    inside = offset[i] >= 0 && shape[i] >= 0 && shape[i] <= whole[i] && offset[i] <= whole[i] - shape[i];
  }
  require(inside, "{}: the block of shape {} at {} is not inside shape {}", subject, to_string(shape),
          to_string(offset), to_string(whole));
  Hdf5Handle space(LEXRING_HDF5_CALL(subject, H5Dget_space(dataset)), H5Sclose);
  if (whole.empty()) return space;
  const Sizes start = to_sizes(offset), count = to_sizes(shape);
  LEXRING_HDF5_CALL(subject, H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr));
  return space;
}

Hdf5Handle link_properties(const std::string& subject) {
  Hdf5Handle properties(LEXRING_HDF5_CALL(subject, H5Pcreate(H5P_LINK_CREATE)), H5Pclose);
  LEXRING_HDF5_CALL(subject, H5Pset_create_intermediate_group(properties, 1));
  return properties;
}

Hdf5Handle create_dataset(hid_t file, const std::string& name, H5Type type, const std::vector<std::int64_t>& shape,
                          hid_t properties, const std::string& subject) {
  const Hdf5Handle space = make_space(shape, subject);
  const Hdf5Handle links = link_properties(subject);
  return {LEXRING_HDF5_CALL(subject,
                            H5Dcreate2(file, name.c_str(), hdf5_type(type), space, links, properties, H5P_DEFAULT)),
          H5Dclose};
}

/// Without times: the same contents are the same file, so that two runs' checkpoints compare by their checksums.
Hdf5Handle dataset_properties(const std::string& subject) {
  Hdf5Handle properties(LEXRING_HDF5_CALL(subject, H5Pcreate(H5P_DATASET_CREATE)), H5Pclose);
  LEXRING_HDF5_CALL(subject, H5Pset_obj_track_times(properties, false));
  return properties;
}

/// Space is taken at once, so that a full disk shows early, and never filled: everything is written.
Hdf5Handle contiguous_properties(const std::string& subject) {
  Hdf5Handle properties = dataset_properties(subject);
  LEXRING_HDF5_CALL(subject, H5Pset_layout(properties, H5D_CONTIGUOUS));
  LEXRING_HDF5_CALL(subject, H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY));
  LEXRING_HDF5_CALL(subject, H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER));
  return properties;
}

}  // namespace

std::vector<std::int64_t> Hdf5File::shape(const std::string& dataset) const {
  const Lock lock(hdf5_mutex());
  const Hdf5Handle opened = impl_->open_dataset(dataset);
  return shape_of(opened, impl_->subject(dataset));
}

H5Type Hdf5File::type(const std::string& dataset) const {
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  const Hdf5Handle opened = impl_->open_dataset(dataset);
  const Hdf5Handle on_disk(LEXRING_HDF5_CALL(subject, H5Dget_type(opened)), H5Tclose);
  for (H5Type type : {H5Type::f32, H5Type::f64, H5Type::bf16, H5Type::i32, H5Type::i64, H5Type::u16, H5Type::u32,
                      H5Type::u64, H5Type::u8}) {
    if (LEXRING_HDF5_CALL(subject, H5Tequal(on_disk, hdf5_type(type))) > 0) return type;
  }
  fail(
      "{}: elements are of a type that lexring does not know ({} bytes each); it reads f32, f64, bf16, i32, i64, u8, "
      "u16, u32 and u64, little-endian",
      subject, H5Tget_size(on_disk));
}

std::optional<std::uint64_t> Hdf5File::contiguous_offset(const std::string& dataset) const {
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  const Hdf5Handle opened = impl_->open_dataset(dataset);
  const Hdf5Handle properties(LEXRING_HDF5_CALL(subject, H5Dget_create_plist(opened)), H5Pclose);
  if (H5Pget_layout(properties) != H5D_CONTIGUOUS || H5Pget_external_count(properties) != 0) return std::nullopt;
  const haddr_t offset = H5Dget_offset(opened);
  return offset == HADDR_UNDEF ? std::nullopt : std::optional<std::uint64_t>(offset);
}

void Hdf5File::write(const std::string& dataset, H5Type type, const std::vector<std::int64_t>& shape,
                     std::span<const std::byte> bytes) {
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  require_bytes(bytes.size(), shape, type, subject);
  const Hdf5Handle created = create_dataset(impl_->file, dataset, type, shape, contiguous_properties(subject), subject);
  if (bytes.empty()) return;
  LEXRING_HDF5_CALL(subject, H5Dwrite(created, hdf5_type(type), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()));
}

void Hdf5File::create(const std::string& dataset, H5Type type, const std::vector<std::int64_t>& shape) {
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  create_dataset(impl_->file, dataset, type, shape, contiguous_properties(subject), subject);
}

void Hdf5File::write_rows(const std::string& dataset, std::int64_t first_row, std::int64_t rows,
                          std::span<const std::byte> bytes) {
  const H5Type element = type(dataset);
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  const Hdf5Handle opened = impl_->open_dataset(dataset);
  auto part = shape_of(opened, subject);
  require(!part.empty(), "{}: a scalar has no rows", subject);
  std::vector<std::int64_t> offset(part.size(), 0);
  offset[0] = first_row;
  part[0] = rows;
  require_bytes(bytes.size(), part, element, subject);
  const Hdf5Handle selection = select(opened, offset, part, subject);
  if (bytes.empty()) return;
  const Hdf5Handle memory = make_space(part, subject);
  LEXRING_HDF5_CALL(subject, H5Dwrite(opened, hdf5_type(element), memory, selection, H5P_DEFAULT, bytes.data()));
}

void Hdf5File::read(const std::string& dataset, H5Type as, const std::vector<std::int64_t>& offset,
                    const std::vector<std::int64_t>& shape, std::span<std::byte> out) const {
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  require_bytes(out.size(), shape, as, subject);
  const Hdf5Handle opened = impl_->open_dataset(dataset);
  const Hdf5Handle selection = select(opened, offset, shape, subject);
  if (out.empty()) return;
  const Hdf5Handle memory = make_space(shape, subject);
  LEXRING_HDF5_CALL(subject, H5Dread(opened, hdf5_type(as), memory, selection, H5P_DEFAULT, out.data()));
}

template <class T>
std::vector<T> Hdf5File::read_all(const std::string& dataset) const {
  constexpr H5Type as = std::is_same_v<T, float>           ? H5Type::f32
                        : std::is_same_v<T, double>        ? H5Type::f64
                        : std::is_same_v<T, bfloat16>      ? H5Type::bf16
                        : std::is_same_v<T, std::int32_t>  ? H5Type::i32
                        : std::is_same_v<T, std::int64_t>  ? H5Type::i64
                        : std::is_same_v<T, std::uint16_t> ? H5Type::u16
                        : std::is_same_v<T, std::uint32_t> ? H5Type::u32
                        : std::is_same_v<T, std::uint64_t> ? H5Type::u64
                                                           : H5Type::u8;
  const auto whole = shape(dataset);
  std::vector<T> values(static_cast<std::size_t>(element_count(whole)));
  read(dataset, as, std::vector<std::int64_t>(whole.size(), 0), whole, std::as_writable_bytes(std::span(values)));
  return values;
}

template std::vector<float> Hdf5File::read_all(const std::string&) const;
template std::vector<double> Hdf5File::read_all(const std::string&) const;
template std::vector<bfloat16> Hdf5File::read_all(const std::string&) const;
template std::vector<std::int32_t> Hdf5File::read_all(const std::string&) const;
template std::vector<std::int64_t> Hdf5File::read_all(const std::string&) const;
template std::vector<std::uint8_t> Hdf5File::read_all(const std::string&) const;
template std::vector<std::uint16_t> Hdf5File::read_all(const std::string&) const;
template std::vector<std::uint32_t> Hdf5File::read_all(const std::string&) const;
template std::vector<std::uint64_t> Hdf5File::read_all(const std::string&) const;

void Hdf5File::write_virtual(const std::string& dataset, H5Type type, const std::vector<std::int64_t>& shape,
                             const std::vector<VirtualPiece>& pieces) {
  const Lock lock(hdf5_mutex());
  const std::string subject = impl_->subject(dataset);
  if (shape.empty()) {  // HDF5 cannot map a scalar; a link to its only piece shows the same
    require(pieces.size() == 1, "{}: a scalar has {} pieces, but must have one", subject, pieces.size());
    const Hdf5Handle links = link_properties(subject);
    const VirtualPiece& piece = pieces.front();
    LEXRING_HDF5_CALL(subject, H5Lcreate_external(piece.file.c_str(), piece.dataset.c_str(), impl_->file,
                                                  dataset.c_str(), links, H5P_DEFAULT));
    return;
  }
  const Hdf5Handle properties = dataset_properties(subject);
  const bfloat16 nan16(std::numeric_limits<float>::quiet_NaN());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  if (type == H5Type::bf16) {
    LEXRING_HDF5_CALL(subject, H5Pset_fill_value(properties, hdf5_type(type), &nan16));
  } else if (type == H5Type::f32 || type == H5Type::f64) {
    LEXRING_HDF5_CALL(subject, H5Pset_fill_value(properties, H5T_NATIVE_FLOAT, &nan));
  }
  const Hdf5Handle whole = make_space(shape, subject);
  for (const VirtualPiece& piece : pieces) {
    if (element_count(piece.shape) == 0) continue;
    const Sizes start = to_sizes(piece.offset), count = to_sizes(piece.shape);
    require(start.size() == shape.size() && count.size() == shape.size(), "{}: a piece of {} has another rank than {}",
            subject, piece.file, to_string(shape));
    LEXRING_HDF5_CALL(subject,
                      H5Sselect_hyperslab(whole, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr));
    std::string source;  // HDF5 reads printf-like patterns in names
    for (char c : piece.file) source += c == '%' ? "%%" : std::string(1, c);
    LEXRING_HDF5_CALL(subject, H5Pset_virtual(properties, whole, source.c_str(), piece.dataset.c_str(),
                                              make_space(piece.shape, subject)));
  }
  create_dataset(impl_->file, dataset, type, shape, properties, subject);
}

}  // namespace lexring
