/// A checkpoint as one file that stands alone, for other programs.
#pragma once

#include <filesystem>
#include <string>

#include "parallel/checkpoint/checkpoint.h"

namespace lexring {

/// Checks the checksums of all files of a checkpoint, then writes every tensor under its name and in its dtype (bf16 is
/// a 16-bit HDF5 float, which h5py reads as float32) into the new HDF5 file `file`, and syncs it. The root group has
/// the state as attributes, as checkpoint.h5 has, and "format" (export_format); where the kind of `tokenizer` is known,
/// "tokenizer" and "tokenizer_files", as a dataset has them. Holds a few MiB at a time. Throws Error when the
/// checkpoint is not whole or the file cannot be written; what is there then is no use to anybody.
void export_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& file,
                       const StoredTokenizer& tokenizer);

inline constexpr const char* export_format = "lexring exported checkpoint";
/// What is in a file that export_checkpoint wrote, as text for a terminal; empty when `file` is none.
std::string describe_export(const std::filesystem::path& file);

}  // namespace lexring
