#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include <fmt/format.h>

#include "framework/io/hdf5_file.h"
#include "parallel/checkpoint/agree.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/manifest.h"
#include "parallel/checkpoint/newest.h"

namespace lexring {
namespace {

/// The block that a piece and what is read have in common, in the whole tensor.
struct Block {
  Shape offset;
  Shape shape;
};

std::optional<Block> common_block(const ManifestPiece& piece, const Shape& offset, const Shape& shape) {
  Block block;
  for (std::size_t i = 0; i < piece.shape.size(); ++i) {
    const std::int64_t begin = std::max(piece.offset[i], offset[i]);
    const std::int64_t end = std::min(piece.offset[i] + piece.shape[i], offset[i] + shape[i]);
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

/// Copies a dense block to its place inside a dense array of shape `whole`, run by run of the last dim.
void place_block(const std::vector<std::byte>& block, std::size_t element, const Shape& at, const Shape& shape,
                 std::span<std::byte> into, const Shape& whole) {
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
    const std::size_t bytes = static_cast<std::size_t>(run) * element;
    std::memcpy(into.data() + static_cast<std::size_t>(index) * element,
                block.data() + static_cast<std::size_t>(r) * bytes, bytes);
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
  mutable bool whole = false;                      // all files have been read and are as the manifest says

  void require_same_everywhere(Communicator& world) const;
  void check_share(const Communicator& world) const;
  const Hdf5File& open(const std::string& file) const;
  std::vector<std::byte> read_block(const ManifestTensor& tensor, const ManifestPiece& piece, const Block& block) const;
};

CheckpointReader::CheckpointReader(Communicator& world, const std::filesystem::path& path)
    : CheckpointReader(or_fail(find_checkpoint(world, path), path)) {}

CheckpointReader::CheckpointReader(std::filesystem::path step, Manifest manifest) : impl_(std::make_unique<Impl>()) {
  impl_->path = std::move(step);
  impl_->manifest = std::move(manifest);
  for (std::size_t i = 0; i < impl_->manifest.tensors.size(); ++i) impl_->index[impl_->manifest.tensors[i].name] = i;
}

CheckpointReader::CheckpointReader(const std::filesystem::path& path) {
  const auto step = or_fail(find_checkpoint(path), path);
  *this = CheckpointReader(step, read_manifest(step));
  for (const ManifestFile& file : impl_->manifest.files) check_file(impl_->path, file, false);
  impl_->manifest.state.tokenizer.files = read_tokenizer_files(impl_->path, impl_->manifest);
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;
CheckpointReader& CheckpointReader::operator=(CheckpointReader&&) noexcept = default;

const std::filesystem::path& CheckpointReader::path() const { return impl_->path; }
const TrainingState& CheckpointReader::state() const { return impl_->manifest.state; }
std::string CheckpointReader::origin() const { return impl_->path.string(); }

std::vector<std::string> CheckpointReader::names() const {
  std::vector<std::string> names;
  for (const ManifestTensor& tensor : impl_->manifest.tensors) names.push_back(tensor.name);
  return names;
}

std::optional<TensorSource::Info> CheckpointReader::info(const std::string& name) const {
  const auto at = impl_->index.find(name);
  if (at == impl_->index.end()) return std::nullopt;
  const ManifestTensor& tensor = impl_->manifest.tensors[at->second];
  return Info{tensor.dtype, tensor.shape};
}

void CheckpointReader::verify(Communicator& world) const {
  if (impl_->whole) return;
  impl_->require_same_everywhere(world);
  agree(world, [&] { impl_->check_share(world); });
  impl_->whole = true;
}

std::string CheckpointReader::damage(Communicator& world) const {
  if (impl_->whole) return "";
  impl_->require_same_everywhere(world);
  const std::string found = damage_of(world, [&] { impl_->check_share(world); });
  impl_->whole = found.empty();
  return found;
}

void CheckpointReader::Impl::require_same_everywhere(Communicator& world) const {
  require_same(
      world, path.filename().string() + "\n" + to_text(manifest),
      fmt::format(
          "checkpoint than rank 0, which reads {}; is the directory shared by all nodes, and is nobody writing to it?",
          path.string()));
}

void CheckpointReader::Impl::check_share(const Communicator& world) const {
  const auto& files = manifest.files;
  for (std::size_t i = static_cast<std::size_t>(world.rank()); i < files.size();
       i += static_cast<std::size_t>(world.size())) {
    check_file(path, files[i], true);
  }
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

void CheckpointReader::do_read(const std::string& name, const Shape& offset, const Shape& shape,
                               std::span<std::byte> out) const {
  const ManifestTensor& tensor = impl_->manifest.tensors[impl_->index.at(name)];
  for (const ManifestPiece& piece : tensor.pieces) {  // which leave nothing out, as read_manifest has checked
    const auto block = common_block(piece, offset, shape);
    if (!block) continue;
    const auto bytes = impl_->read_block(tensor, piece, *block);
    place_block(bytes, size_of(tensor.dtype), difference(block->offset, offset), block->shape, out, shape);
  }
}

}  // namespace lexring
