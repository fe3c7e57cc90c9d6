#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "framework/io/hdf5_file.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/manifest.h"

namespace lexring {
namespace {

/// The block that a piece and a part have in common, in the whole tensor.
struct Block {
  Shape offset;
  Shape shape;
};

std::optional<Block> common_block(const ManifestPiece& piece, const LogicalTensor& part) {
  Block block;
  for (std::size_t i = 0; i < piece.shape.size(); ++i) {
    const std::int64_t begin = std::max(piece.offset[i], part.offset[i]);
    const std::int64_t end = std::min(piece.offset[i] + piece.shape[i], part.offset[i] + part.data.shape()[i]);
    if (begin >= end) return std::nullopt;
    block.offset.push_back(begin);
    block.shape.push_back(end - begin);
  }
  return block;
}

Shape difference(const Shape& a, const Shape& b) {
  Shape result(a.size());
  std::transform(a.begin(), a.end(), b.begin(), result.begin(), std::minus<>());
  return result;
}

template <class To, class From>
void convert(const std::byte* from, std::byte* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    To result;
    if constexpr (std::is_same_v<To, bfloat16>) {
      result = bfloat16(static_cast<float>(value));
    } else {
      result = static_cast<To>(value);
    }
    std::memcpy(to + static_cast<std::size_t>(i) * sizeof(To), &result, sizeof(To));
  }
}

template <class To>
void convert(const std::byte* from, Dtype source, std::byte* to, std::int64_t count) {
  if (source == Dtype::f32) return convert<To, float>(from, to, count);
  if (source == Dtype::f64) return convert<To, double>(from, to, count);
  return convert<To, bfloat16>(from, to, count);
}

void convert(const std::byte* from, Dtype source, std::byte* to, Dtype target, std::int64_t count) {
  if (source == target) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * size_of(source));
  } else if (target == Dtype::f32) {
    convert<float>(from, source, to, count);
  } else if (target == Dtype::f64) {
    convert<double>(from, source, to, count);
  } else {
    convert<bfloat16>(from, source, to, count);
  }
}

/// Copies a dense block to its place inside a dense array of shape `whole`, run by run of the last dim.
void place_block(const std::vector<std::byte>& block, Dtype source, const Shape& at, const Shape& shape,
                 std::vector<std::byte>& into, Dtype target, const Shape& whole) {
  const std::int64_t run = shape.empty() ? 1 : shape.back();
  const std::int64_t runs = element_count(shape) / run;
  for (std::int64_t r = 0; r < runs; ++r) {
    std::int64_t index = 0, rest = r, stride = 1;
    if (!whole.empty()) {
      index = at.back();
      stride = whole.back();
    }
    for (std::size_t d = shape.size(); d-- > 1;) {
      index += (at[d - 1] + rest % shape[d - 1]) * stride;
      rest /= shape[d - 1];
      stride *= whole[d - 1];
    }
    convert(block.data() + static_cast<std::size_t>(r * run) * size_of(source), source,
            into.data() + static_cast<std::size_t>(index) * size_of(target), target, run);
  }
}

std::filesystem::path or_fail(const std::optional<std::filesystem::path>& found, const std::filesystem::path& path) {
  require(found.has_value(),
          "{}: there is no complete checkpoint; give a step-* directory that has a {}, or a directory of them",
          path.string(), manifest_name);
  return *found;
}

}  // namespace

struct CheckpointReader::Impl {
  std::filesystem::path path;
  Manifest manifest;
  std::map<std::string, std::size_t> index;        // of tensors, by name
  mutable std::map<std::string, Hdf5File> opened;  // shards

  const Hdf5File& open(const std::string& file) const;
  std::vector<std::byte> read_block(const ManifestTensor& tensor, const ManifestPiece& piece, const Block& block) const;
};

CheckpointReader::CheckpointReader(Communicator& world, const std::filesystem::path& path)
    : CheckpointReader(or_fail(find_checkpoint(world, path), path)) {}

CheckpointReader::CheckpointReader(const std::filesystem::path& path) : impl_(std::make_unique<Impl>()) {
  impl_->path = or_fail(find_checkpoint(path), path);
  impl_->manifest = read_manifest(impl_->path);
  for (std::size_t i = 0; i < impl_->manifest.tensors.size(); ++i) impl_->index[impl_->manifest.tensors[i].name] = i;
  for (const ManifestFile& file : impl_->manifest.files) check_file(impl_->path, file, false);
  impl_->manifest.state.tokenizer.files = read_tokenizer_files(impl_->path, impl_->manifest);
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;

const std::filesystem::path& CheckpointReader::path() const { return impl_->path; }
const TrainingState& CheckpointReader::state() const { return impl_->manifest.state; }
bool CheckpointReader::has(const std::string& name) const { return impl_->index.contains(name); }

std::vector<CheckpointReader::Entry> CheckpointReader::tensors() const {
  std::vector<Entry> entries;
  for (const ManifestTensor& tensor : impl_->manifest.tensors)
    entries.push_back({tensor.name, tensor.dtype, tensor.shape});
  return entries;
}

void CheckpointReader::verify(Communicator& world) const {
  require_same(
      world, impl_->path.filename().string() + "\n" + to_text(impl_->manifest),
      fmt::format(
          "checkpoint than rank 0, which reads {}; is the directory shared by all nodes, and is nobody writing to it?",
          impl_->path.string()));
  agree(world, [&] {
    const auto& files = impl_->manifest.files;
    for (std::size_t i = static_cast<std::size_t>(world.rank()); i < files.size();
         i += static_cast<std::size_t>(world.size())) {
      check_file(impl_->path, files[i], true);
    }
  });
}

const Hdf5File& CheckpointReader::Impl::open(const std::string& file) const {
  constexpr std::size_t most_open = 16;  // a shard per rank of a large run would take all descriptors
  const auto at = opened.find(file);
  if (at != opened.end()) return at->second;
  if (opened.size() >= most_open) opened.clear();
  return opened.try_emplace(file, path / file, Hdf5File::Mode::read).first->second;
}

std::vector<std::byte> CheckpointReader::Impl::read_block(const ManifestTensor& tensor, const ManifestPiece& piece,
                                                          const Block& block) const {
  const Hdf5File& file = open(piece.file);
  require(file.exists(piece.dataset) && file.shape(piece.dataset) == piece.shape &&
              file.type(piece.dataset) == h5_type(tensor.dtype),
          "{}: {} is not the {} of shape {} that its manifest says; the file is damaged: take another checkpoint",
          file.path().string(), piece.dataset, name_of(tensor.dtype), to_string(piece.shape));
  std::vector<std::byte> bytes(static_cast<std::size_t>(element_count(block.shape)) * size_of(tensor.dtype));
  file.read(piece.dataset, h5_type(tensor.dtype), difference(block.offset, piece.offset), block.shape, bytes);
  return bytes;
}

void CheckpointReader::read(const LogicalTensor& part) const {
  const auto at = impl_->index.find(part.name);
  require(at != impl_->index.end(), "{}: there is no tensor {}; the checkpoint is of another model",
          impl_->path.string(), part.name);
  const ManifestTensor& tensor = impl_->manifest.tensors[at->second];
  require(tensor.shape == part.full_shape,
          "{}: tensor {} has shape {}, but {} is needed; the checkpoint is of another model", impl_->path.string(),
          part.name, to_string(tensor.shape), to_string(part.full_shape));
  const Dtype target = part.data.dtype();
  require(target == tensor.dtype || (target != Dtype::i32 && tensor.dtype != Dtype::i32),
          "{}: tensor {} is {}, but {} is needed", impl_->path.string(), part.name, name_of(tensor.dtype),
          name_of(target));
  require(part.offset.size() == tensor.shape.size() && part.data.shape().size() == tensor.shape.size(),
          "{}: tensor {}: a part of shape {} at {} does not fit shape {}", impl_->path.string(), part.name,
          to_string(part.data.shape()), to_string(part.offset), to_string(tensor.shape));

  std::vector<std::byte> host(part.data.bytes());
  std::int64_t filled = 0;
  for (const ManifestPiece& piece : tensor.pieces) {
    const auto block = common_block(piece, part);
    if (!block) continue;
    const auto bytes = impl_->read_block(tensor, piece, *block);
    place_block(bytes, tensor.dtype, difference(block->offset, part.offset), block->shape, host, target,
                part.data.shape());
    filled += element_count(block->shape);
  }
  require(filled == part.data.elements(), "{}: tensor {}: a part of shape {} at {} is not inside shape {}",
          impl_->path.string(), part.name, to_string(part.data.shape()), to_string(part.offset),
          to_string(tensor.shape));
  part.data.runtime().copy_from_host(part.data.raw(), host.data(), host.size());
  part.data.runtime().synchronise();
}

}  // namespace lexring
