#include "parallel/checkpoint/manifest.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "framework/base/counted.h"
#include "framework/io/file_lock.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

using nlohmann::json;

constexpr const char* format_name = "lexring checkpoint";
constexpr int format_version = 1;
constexpr std::string_view checksum_key = "\"checksum\": \"";
constexpr std::size_t checksum_digits = 16;

/// Paths in a configuration need not be UTF-8, JSON must be: such bytes are replaced.
std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

json to_json(const ManifestTensor& tensor) {
  json pieces = json::array();
  for (const ManifestPiece& piece : tensor.pieces) {
    pieces.push_back(
        {{"file", piece.file}, {"dataset", piece.dataset}, {"offset", piece.offset}, {"shape", piece.shape}});
  }
  return {{"name", tensor.name},
          {"dtype", std::string(name_of(tensor.dtype))},
          {"shape", tensor.shape},
          {"pieces", pieces}};
}

Dtype dtype_from(const std::string& name) {
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::i32, Dtype::f64}) {
    if (name == name_of(dtype)) return dtype;
  }
  fail("dtype {} is unknown", name);
}

ManifestTensor tensor_from(const json& value) {
  ManifestTensor tensor{value.at("name"), dtype_from(value.at("dtype")), value.at("shape").get<Shape>(), {}};
  for (const json& piece : value.at("pieces")) {
    tensor.pieces.push_back(
        {piece.at("file"), piece.at("dataset"), piece.at("offset").get<Shape>(), piece.at("shape").get<Shape>()});
  }
  return tensor;
}

json to_json(const ManifestFile& file) { return {{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.hash}}; }

ManifestFile file_from(const json& value) { return {value.at("name"), value.at("bytes"), value.at("xxh3")}; }

json to_json(const TrainingState& state) {
  return {{"step", state.step},
          {"samples", state.samples},
          {"skipped_steps", state.skipped_steps},
          {"skipped_in_a_row", state.skipped_in_a_row},
          {"dataset_hash", state.dataset_hash},
          {"configuration", state.configuration},
          {"tokenizer", state.tokenizer.kind}};
}

TrainingState state_from(const json& value) {
  return {value.at("step"),
          value.at("samples"),
          value.at("skipped_steps"),
          value.at("dataset_hash"),
          value.at("configuration"),
          value.value("skipped_in_a_row", std::int64_t{0}),
          {value.value("tokenizer", ""), ""}};
}

template <class Items>
std::string lines(const Items& items) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "\n" : ",\n") + dump(to_json(item));
  return text + "\n";
}

/// Where the digits of the file's own checksum are; they count as zeros in it.
std::size_t checksum_place(const std::string& text) {
  const auto key = text.find(checksum_key);
  const auto place = key == std::string::npos ? key : key + checksum_key.size();
  require(place != std::string::npos && place + checksum_digits <= text.size(), "it has no checksum");
  return place;
}

Manifest parse(std::string text) {
  const auto place = checksum_place(text);
  const std::string said = text.substr(place, checksum_digits);
  text.replace(place, checksum_digits, checksum_digits, '0');
  require(hash_text(text) == said, "its checksum is not that of its contents");
  const json root = json::parse(text);
  require(root.at("format") == format_name, "it is not a manifest of lexring");
  require(root.at("version") == format_version, "it has format version {}, this program reads {}; use a newer program",
          root.at("version").get<int>(), format_version);
  Manifest manifest;
  manifest.state = state_from(root.at("state"));
  for (const json& file : root.at("files")) manifest.files.push_back(file_from(file));
  for (const json& tensor : root.at("tensors")) manifest.tensors.push_back(tensor_from(tensor));
  return manifest;
}

void check_references(const Manifest& manifest) {
  std::set<std::string> files;
  for (const ManifestFile& file : manifest.files) {
    require(!file.name.empty() && file.name.find('/') == std::string::npos, "it names a file outside its directory: {}",
            file.name);
    files.insert(file.name);
  }
  for (const ManifestTensor& tensor : manifest.tensors) {
    for (const ManifestPiece& piece : tensor.pieces)
      require(files.contains(piece.file), "{} lies in {}, which is not listed", tensor.name, piece.file);
  }
  check_tiling(manifest.tensors);
}

bool overlap(const ManifestPiece& a, const ManifestPiece& b) {
  for (std::size_t i = 0; i < a.shape.size(); ++i) {
    if (a.offset[i] + a.shape[i] <= b.offset[i] || b.offset[i] + b.shape[i] <= a.offset[i]) return false;
  }
  return true;
}

void check_tiling(const ManifestTensor& tensor) {
  std::int64_t count = 0;
  for (std::size_t p = 0; p < tensor.pieces.size(); ++p) {
    const ManifestPiece& piece = tensor.pieces[p];
    bool inside = piece.offset.size() == tensor.shape.size() && piece.shape.size() == tensor.shape.size();
    for (std::size_t i = 0; inside && i < tensor.shape.size(); ++i) {
      inside = piece.offset[i] >= 0 && piece.shape[i] >= 0 && piece.shape[i] <= tensor.shape[i] - piece.offset[i];
    }
    require(inside, "tensor {} of shape {}: its piece of shape {} at {} lies outside", tensor.name,
            to_string(tensor.shape), to_string(piece.shape), to_string(piece.offset));
    count += element_count(piece.shape);
    for (std::size_t q = 0; q < p; ++q) {
      require(!overlap(piece, tensor.pieces[q]),
              "tensor {}: its pieces at {} ({}) and {} ({}) overlap; every element must have one owner", tensor.name,
              to_string(tensor.pieces[q].offset), tensor.pieces[q].file, to_string(piece.offset), piece.file);
    }
  }
  require(count == element_count(tensor.shape),
          "tensor {} of shape {}: its pieces hold {} of {} elements; some part has no owner", tensor.name,
          to_string(tensor.shape), count, element_count(tensor.shape));
}

}  // namespace

void write_state(Hdf5File& file, const TrainingState& state) {
  file.write_attribute("/", "step", state.step);
  file.write_attribute("/", "samples", state.samples);
  file.write_attribute("/", "skipped_steps", state.skipped_steps);
  file.write_attribute("/", "dataset_hash", state.dataset_hash);
  file.write_attribute("/", "configuration", state.configuration);
  if (!state.tokenizer.kind.empty()) file.write_attribute("/", "tokenizer", state.tokenizer.kind);
}

H5Type h5_type(Dtype dtype) {
  constexpr H5Type types[] = {H5Type::f32, H5Type::bf16, H5Type::i32, H5Type::f64};
  return types[static_cast<int>(dtype)];
}

void check_tiling(const std::vector<ManifestTensor>& tensors) {
  for (const ManifestTensor& tensor : tensors) check_tiling(tensor);
}

std::string to_text(const Manifest& manifest) {
  std::string text = fmt::format("{{\n\"format\": \"{}\",\n\"version\": {},\n{}{}\",\n", format_name, format_version,
                                 checksum_key, std::string(checksum_digits, '0'));
  text += fmt::format("\"state\": {},\n\"files\": [{}],\n\"tensors\": [{}]\n}}\n", dump(to_json(manifest.state)),
                      lines(manifest.files), lines(manifest.tensors));
  return text.replace(checksum_place(text), checksum_digits, hash_text(text));
}

Manifest read_manifest(const std::filesystem::path& directory) {
  const auto path = directory / manifest_name;
  return manifest_from_text(read_text_file(path), path.string());
}

Manifest manifest_from_text(const std::string& text, const std::string& source) {
  try {
    Manifest manifest = parse(text);
    check_references(manifest);
    return manifest;
  } catch (const json::exception& error) {
    fail("{}: cannot be used: {}; take another checkpoint", source, error.what());
  } catch (const Error& error) {
    fail("{}: cannot be used: {}; take another checkpoint", source, error.what());
  }
}

std::string to_text(const std::vector<ManifestTensor>& tensors) {
  json list = json::array();
  for (const ManifestTensor& tensor : tensors) list.push_back(to_json(tensor));
  return dump(list);
}

std::vector<ManifestTensor> tensors_from_text(const std::string& text) {
  std::vector<ManifestTensor> tensors;
  for (const json& tensor : json::parse(text)) tensors.push_back(tensor_from(tensor));
  return tensors;
}

std::string to_text(const ManifestFile& file) { return dump(to_json(file)); }

ManifestFile file_from_text(const std::string& text) { return file_from(json::parse(text)); }

namespace {

/// HDF5 changes a file as soon as a program has opened it for writing, and may put that right when it is closed.
[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& difference) {
  const bool locked = locked_by_another(path);
  fail("{} is {}: {}; {}", path.string(),
       locked ? "locked by another program, which may be writing into it" : "damaged", difference,
       locked ? "wait until that has closed it, or take another checkpoint" : "take another checkpoint");
}

}  // namespace

void check_file(const std::filesystem::path& directory, const ManifestFile& file, bool hash) {
  const auto path = directory / file.name;
  require(std::filesystem::is_regular_file(path),
          "{} is missing, but the checkpoint's manifest lists it; take another checkpoint", path.string());
  const auto bytes = size_of_file(path);
  if (bytes != file.bytes)
    refuse(path, fmt::format("it has {}, its manifest says {}", counted(bytes, "byte"), file.bytes));
  if (!hash) return;
  const std::string found = hash_file(path);
  if (found != file.hash)
    refuse(path, fmt::format("its contents have checksum {}, its manifest says {}", found, file.hash));
}

const ManifestFile* tokenizer_file(const Manifest& manifest) {
  const auto found = std::find_if(manifest.files.begin(), manifest.files.end(),
                                  [](const ManifestFile& file) { return file.name == tokenizer_name; });
  return found == manifest.files.end() ? nullptr : &*found;
}

std::string read_tokenizer_files(const std::filesystem::path& directory, const Manifest& manifest) {
  const ManifestFile* file = tokenizer_file(manifest);
  if (file == nullptr) return "";
  check_file(directory, *file, true);
  return read_text_file(directory / file->name);
}

}  // namespace lexring
