#include "parallel/checkpoint/inspect.h"

#include <algorithm>
#include <sstream>

#include "framework/base/counted.h"
#include "parallel/checkpoint/checkpoint.h"
#include "parallel/checkpoint/manifest.h"

namespace lexring {
namespace {

std::string indent(const std::string& text) {
  std::string result, line;
  std::istringstream lines(text);
  while (std::getline(lines, line)) {
    if (!line.empty()) result += "  " + line + "\n";
  }
  return result;
}

std::string describe_tokenizer(const Manifest& manifest) {
  const std::string& kind = manifest.state.tokenizer.kind;
  if (kind.empty()) return "tokenizer not stored";
  const ManifestFile* file = tokenizer_file(manifest);
  return fmt::format(
      "tokenizer {}{}", kind,
      file == nullptr ? "" : fmt::format(", files of {}, xxh3 {}", counted(file->bytes, "byte"), file->hash));
}

std::string describe_tensors(const Manifest& manifest) {
  std::size_t widest = 0;
  std::int64_t elements = 0;
  for (const ManifestTensor& tensor : manifest.tensors) {
    widest = std::max(widest, tensor.name.size());
    if (!tensor.name.starts_with("optimizer.")) elements += element_count(tensor.shape);
  }
  std::string text =
      fmt::format("tensors: {}, of which the model's hold {}\n", manifest.tensors.size(), counted(elements, "element"));
  for (const ManifestTensor& tensor : manifest.tensors) {
    text += fmt::format("  {:{}}  {:4}  {}{}\n", tensor.name, widest, name_of(tensor.dtype), to_string(tensor.shape),
                        tensor.pieces.size() > 1 ? fmt::format("  in {} pieces", tensor.pieces.size()) : "");
  }
  return text;
}

}  // namespace

std::string describe_checkpoint(const std::filesystem::path& path, bool verify) {
  const CheckpointReader reader(path);  // checks sizes
  const Manifest manifest = read_manifest(reader.path());
  std::string text = fmt::format("checkpoint {}\n  step {}, {}, {}, dataset {}\n", reader.path().string(),
                                 manifest.state.step, counted(manifest.state.samples, "sample"),
                                 counted(manifest.state.skipped_steps, "skipped step"), manifest.state.dataset_hash);
  text += "  " + describe_tokenizer(manifest) + "\n";
  text += "configuration\n" + indent(manifest.state.configuration) + describe_tensors(manifest) + "files\n";
  for (const ManifestFile& file : manifest.files) {
    if (verify) check_file(reader.path(), file, true);
    text += fmt::format("  {}  {}  xxh3 {}{}\n", file.name, counted(file.bytes, "byte"), file.hash,
                        verify ? "  verified" : "");
  }
  text += fmt::format(
      "{} shows the shards beside it; copied alone, it reads as NaN: --export FILE.h5 writes one file that stands "
      "alone\n",
      whole_name);
  if (!verify) text += "contents not verified; --verify reads and hashes every file\n";
  return text;
}

}  // namespace lexring
