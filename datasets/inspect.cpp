#include "datasets/inspect.h"

#include <algorithm>
#include <vector>

#include <nlohmann/json.hpp>

#include "datasets/content_hash.h"
#include "datasets/dataset.h"
#include "datasets/sources.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

constexpr std::int64_t chunk = std::int64_t{1} << 20;  ///< tokens read at a time

void verify_content(const Dataset& dataset) {
  ContentHash hash;
  std::vector<std::byte> raw;
  std::vector<std::int32_t> ids;
  for (std::int64_t first = 0; first < dataset.tokens(); first += chunk) {
    const auto count = static_cast<std::size_t>(std::min(chunk, dataset.tokens() - first));
    raw.resize(count * static_cast<std::size_t>(dataset.token_width()));
    dataset.read_raw(first, raw);
    hash.update(raw);
    ids.resize(count);
    dataset.read(first, ids);  // refuses ids outside the vocabulary
  }
  hash.update(std::as_bytes(std::span(dataset.documents())));
  if (!dataset.answers().empty()) hash.update(std::as_bytes(std::span(dataset.answers())));
  require(hash.hex() == dataset.content_hash(),
          "{} is damaged: its content hashes to {}, but {} was stored when it was made; prepare it again",
          dataset.path().string(), hash.hex(), dataset.content_hash());
}

/// Bytes of text of each document.
std::vector<std::uint64_t> document_bytes(const Dataset& dataset) {
  const auto& borders = dataset.documents();
  std::vector<std::uint64_t> bytes(borders.size() - 1, 0);
  if (dataset.tokenizer() == "bytes") {  // known without reading: all but the end of document
    for (std::size_t d = 0; d < bytes.size(); ++d)
      bytes[d] = std::max<std::uint64_t>(borders[d + 1] - borders[d], 1) - 1;
    return bytes;
  }
  std::vector<std::int32_t> ids;
  std::size_t document = 0;
  for (std::int64_t first = 0; first < dataset.tokens(); first += chunk) {
    ids.resize(static_cast<std::size_t>(std::min(chunk, dataset.tokens() - first)));
    dataset.read(first, ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      while (static_cast<std::uint64_t>(first) + i >= borders[document + 1]) ++document;
      bytes[document] += dataset.token_bytes()[static_cast<std::size_t>(ids[i])];
    }
  }
  return bytes;
}

}  // namespace

DatasetSummary inspect_dataset(const std::filesystem::path& path, Verify verify) {
  const auto dataset = Dataset::open(path);
  DatasetSummary summary;
  summary.path = path.string();
  summary.tokenizer = dataset.tokenizer();
  summary.source = dataset.source();
  summary.content_hash = dataset.content_hash();
  summary.vocab = dataset.vocab();
  summary.tokens = dataset.tokens();
  summary.documents = static_cast<std::int64_t>(dataset.documents().size()) - 1;
  summary.answers = static_cast<std::int64_t>(dataset.answers().size()) / 2;
  summary.window = dataset.window();
  summary.file_bytes = std::filesystem::file_size(path);
  if (verify == Verify::yes) {
    verify_content(dataset);
    summary.verified = true;
  }
  auto bytes = document_bytes(dataset);
  for (const auto b : bytes) summary.text_bytes += b;
  summary.longest_document = *std::max_element(bytes.begin(), bytes.end());
  const auto middle = bytes.begin() + static_cast<std::ptrdiff_t>(bytes.size() / 2);
  std::nth_element(bytes.begin(), middle, bytes.end());
  summary.median_document = *middle;
  return summary;
}

std::string to_text(const DatasetSummary& s) {
  const std::string of_task = s.window == 0 ? ""
                                            : fmt::format(
                                                  "answers           {}, which alone are targets\n"
                                                  "windows           whole texts in {}: train.length\n",
                                                  s.answers, counted(s.window, "token"));
  return fmt::format(
      "dataset           {}\n"
      "size              {} on disk\n"
      "source            {}\n"
      "tokenizer         {}, vocabulary {}\n"
      "tokens            {}\n"
      "documents         {}\n"
      "text              {}, {:.3f} bytes a token\n"
      "document          median {}, longest {}\n"
      "{}"
      "content hash      {} ({})\n",
      s.path, counted(s.file_bytes, "byte"), describe_sources(s.source), s.tokenizer, s.vocab, s.tokens, s.documents,
      counted(s.text_bytes, "byte"), static_cast<double>(s.text_bytes) / static_cast<double>(s.tokens),
      counted(s.median_document, "byte"), counted(s.longest_document, "byte"), of_task, s.content_hash,
      s.verified ? "verified" : "as stored; --verify reads everything and checks it");
}

std::string to_json(const DatasetSummary& s) {
  return nlohmann::ordered_json{{"kind", "dataset"},
                                {"path", s.path},
                                {"file_bytes", s.file_bytes},
                                {"source", s.source},
                                {"tokenizer", s.tokenizer},
                                {"vocab", s.vocab},
                                {"tokens", s.tokens},
                                {"documents", s.documents},
                                {"answers", s.answers},
                                {"window", s.window},
                                {"text_bytes", s.text_bytes},
                                {"median_document_bytes", s.median_document},
                                {"longest_document_bytes", s.longest_document},
                                {"content_hash", s.content_hash},
                                {"verified", s.verified}}
      .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace lexring
