/// The manifest of a checkpoint: what loading goes by. Format: README.md of this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "framework/io/hdf5_file.h"
#include "framework/tensor/tensor.h"
#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

inline constexpr const char* manifest_name = "manifest.json";
inline constexpr const char* whole_name = "checkpoint.h5";  ///< the virtual datasets, for people
inline constexpr const char* tokenizer_name = "tokenizer";  ///< the tokenizer's files, where it needs any

/// Part of a logical tensor: a whole dataset of one file.
struct ManifestPiece {
  std::string file;  ///< in the checkpoint's directory
  std::string dataset;
  Shape offset;
  Shape shape;
};

struct ManifestTensor {
  std::string name;
  Dtype dtype = Dtype::f32;
  Shape shape;
  std::vector<ManifestPiece> pieces;
};

struct ManifestFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::string hash;  ///< XXH3-64, 16 hexadecimal digits
};

struct Manifest {
  TrainingState state;  ///< in the manifest's text without the tokenizer's files, which are a file of their own
  std::vector<ManifestFile> files;
  std::vector<ManifestTensor> tensors;
};

H5Type h5_type(Dtype dtype);

/// The state as attributes of a file's root group, for people.
void write_state(Hdf5File& file, const TrainingState& state);

/// Throws Error unless the pieces of every tensor fill it exactly: all inside, none over another, none missing.
void check_tiling(const std::vector<ManifestTensor>& tensors);

std::string to_text(const Manifest& manifest);
/// Throws Error naming the file when it is missing, damaged (its own checksum), of a newer format, or contradicts
/// itself. The tokenizer's files are left to read_tokenizer_files.
Manifest read_manifest(const std::filesystem::path& directory);
/// The same of a manifest's text, which comes from `source`.
Manifest manifest_from_text(const std::string& text, const std::string& source);

/// What a rank tells the others of its pieces and of its file.
std::string to_text(const std::vector<ManifestTensor>& tensors);
std::vector<ManifestTensor> tensors_from_text(const std::string& text);
std::string to_text(const ManifestFile& file);
ManifestFile file_from_text(const std::string& text);

/// The file of the tokenizer in the list; null where it needs none.
const ManifestFile* tokenizer_file(const Manifest& manifest);
/// Its contents. Throws Error naming it when they are missing or damaged.
std::string read_tokenizer_files(const std::filesystem::path& directory, const Manifest& manifest);

/// Throws Error unless the file has the size (and with `hash` the checksum) that the manifest says.
void check_file(const std::filesystem::path& directory, const ManifestFile& file, bool hash);

}  // namespace lexring
