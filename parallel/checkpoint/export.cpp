#include "parallel/checkpoint/export.h"

#include <algorithm>

#include "parallel/checkpoint/files.h"
#include "parallel/checkpoint/manifest.h"

namespace lexring {
namespace {

constexpr std::int64_t block_bytes = 8 << 20;

void write_tensor(const TensorSource& source, const std::string& name, Runtime& runtime, Hdf5File& file) {
  const TensorSource::Info tensor = source.info(name).value();
  const H5Type type = h5_type(tensor.dtype);
  const auto read = [&](const Shape& offset, const Shape& shape) {
    const LogicalTensor part{name, tensor.shape, offset, Tensor(runtime, shape, tensor.dtype)};
    source.read(part);
    return part.data;
  };
  const auto bytes_of = [](const Tensor& data) { return std::span<const std::byte>(data.raw(), data.bytes()); };
  if (tensor.shape.empty()) {
    const Tensor scalar = read({}, {});
    file.write(name, type, {}, bytes_of(scalar));
    return;
  }
  file.create(name, type, tensor.shape);
  if (element_count(tensor.shape) == 0) return;
  const std::int64_t rows = tensor.shape[0];
  const auto row_bytes = element_count(tensor.shape) / rows * static_cast<std::int64_t>(size_of(tensor.dtype));
  const std::int64_t step = std::max<std::int64_t>(block_bytes / row_bytes, 1);
  Shape offset(tensor.shape.size(), 0), shape = tensor.shape;
  for (std::int64_t first = 0; first < rows; first += step) {
    offset[0] = first;
    shape[0] = std::min(step, rows - first);
    const Tensor part = read(offset, shape);
    file.write_rows(name, first, shape[0], bytes_of(part));
  }
}

}  // namespace

void export_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& path,
                       const StoredTokenizer& tokenizer) {
  const CheckpointReader reader(checkpoint);
  for (const ManifestFile& file : read_manifest(reader.path()).files) check_file(reader.path(), file, true);
  const auto runtime = make_cpu_runtime();
  Hdf5File file(path, Hdf5File::Mode::create);
  for (const std::string& name : reader.names()) write_tensor(reader, name, *runtime, file);
  file.write_attribute("/", "format", std::string(export_format));
  TrainingState state = reader.state();
  state.tokenizer = tokenizer;
  write_state(file, state);
  if (!tokenizer.kind.empty()) file.write_attribute("/", "tokenizer_files", tokenizer.files);
  file.close();
  sync_path(path);
}

std::string describe_export(const std::filesystem::path& path) {
  const Hdf5File file(path, Hdf5File::Mode::read);
  if (!file.has_attribute("/", "format") || file.string_attribute("/", "format") != export_format) return "";
  std::string text = fmt::format("exported checkpoint {}\n  step {}, dataset {}\n", path.string(),
                                 file.int_attribute("/", "step"), file.string_attribute("/", "dataset_hash"));
  if (file.has_attribute("/", "tokenizer"))
    text += fmt::format("  tokenizer {}\n", file.string_attribute("/", "tokenizer"));
  text += "configuration\n" + file.string_attribute("/", "configuration") + "tensors\n";
  for (const std::string& name : file.members("/"))
    text += fmt::format("  {}  {}\n", name, to_string(file.shape(name)));
  return text;
}

}  // namespace lexring
