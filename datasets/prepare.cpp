#include "datasets/prepare.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <thread>

#include "datasets/byte_stream.h"
#include "datasets/corpus.h"
#include "datasets/dataset_writer.h"
#include "datasets/document_parser.h"
#include "datasets/long_lines.h"
#include "datasets/ordered_pipeline.h"
#include "datasets/output_target.h"
#include "datasets/partial_file.h"
#include "datasets/sources.h"
#include "datasets/tokenizers/tokenizer.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

/// What a worker makes of one block.
struct EncodedBlock {
  std::vector<std::byte> tokens;  ///< packed, `width` bytes each
  std::vector<std::uint64_t>
      document_ends;  ///< in `tokens`, in tokens; a text document that goes on in the next block has none here
  std::vector<std::string> bad;
  std::uint64_t text_bytes = 0;
  std::int64_t empty = 0, replaced = 0;
  CorpusFormat format = CorpusFormat::text;
  bool begins_document = true, ends_document = true;
  std::uint64_t bytes_read = 0;
};

/// Turns blocks into packed tokens. One per thread.
class BlockEncoder {
 public:
  BlockEncoder(const std::vector<CorpusFile>& files, const Tokenizer& tokenizer, std::size_t width)
      : files_(files), tokenizer_(tokenizer), encoder_(tokenizer.encoder()), width_(width) {}

  EncodedBlock operator()(TextBlock&& block) {
    const auto& file = files_[block.file];
    try {
      return encode(block, file);
    } catch (const std::bad_alloc&) {
      fail("there is not enough memory to tokenise {} from line {}; {}", file.path.string(), block.first_line,
           advice_on_memory);
    }
  }

 private:
  EncodedBlock encode(TextBlock& block, const CorpusFile& file) {
    EncodedBlock out;
    out.format = block.format;
    out.begins_document = block.begins_document;
    out.ends_document = block.ends_document;
    out.bytes_read = block.bytes_read;
    out.replaced = block.replaced;
    if (!block.bad.empty()) out.bad.push_back(std::move(block.bad));
    const bool lines = block.format == CorpusFormat::json_lines;
    out.replaced += parser_.parse(
        block, file,
        [&](std::string_view text) {
          if (lines && text.empty()) {
            ++out.empty;
            return;
          }
          ids_.clear();
          encoder_->encode(text, ids_);
          if (lines) ids_.push_back(static_cast<std::uint32_t>(tokenizer_.end_of_document()));
          pack(out.tokens);
          if (lines) out.document_ends.push_back(out.tokens.size() / width_);
          out.text_bytes += text.size();
        },
        [&](std::string message) { out.bad.push_back(std::move(message)); });
    return out;
  }

  /// Appends ids_.
  void pack(std::vector<std::byte>& packed) const {
    const auto first = packed.size();
    packed.resize(first + ids_.size() * width_);
    if (width_ == 2) {
      for (std::size_t i = 0; i < ids_.size(); ++i) {
        const auto id = static_cast<std::uint16_t>(ids_[i]);
        std::memcpy(packed.data() + first + 2 * i, &id, 2);
      }
    } else if (!ids_.empty()) {
      std::memcpy(packed.data() + first, ids_.data(), ids_.size() * width_);
    }
  }

  const std::vector<CorpusFile>& files_;
  const Tokenizer& tokenizer_;
  std::unique_ptr<Tokenizer::Encoder> encoder_;
  std::size_t width_;
  DocumentParser parser_;
  std::vector<std::uint32_t> ids_;
};

/// Takes encoded blocks in order: tokens to the spool, borders to the table.
class Collector {
 public:
  Collector(SpoolFile& spool, const Tokenizer& tokenizer, std::size_t width, BadInput bad_input)
      : spool_(spool), width_(width), bad_input_(bad_input) {
    const auto id = static_cast<std::uint32_t>(tokenizer.end_of_document());
    end_of_document_.resize(width);
    std::memcpy(end_of_document_.data(), &id, width);  // little-endian
  }

  void take(const EncodedBlock& block) {
    report.empty += block.empty;
    report.replaced_surrogates += block.replaced;
    for (const auto& message : block.bad) skip(message);
    if (block.format == CorpusFormat::json_lines) {
      const auto base = spool_.size() / width_;
      spool_.append(block.tokens);
      for (const auto end : block.document_ends) documents.push_back(base + end);
      report.text_bytes += block.text_bytes;
    } else {
      take_piece(block);
    }
  }

  std::vector<std::uint64_t> documents{0};
  PrepareReport report;

 private:
  void skip(const std::string& message) {
    require(bad_input_ == BadInput::skip, "{}; mend it, or leave out what is broken with --skip-bad", message);
    // Of one text document one complaint is enough: it is left out whole.
    if (document_is_bad_) return;
    ++report.skipped;
    if (report.skipped_examples.size() < 5) report.skipped_examples.push_back(message);
  }

  void take_piece(const EncodedBlock& block) {
    if (block.begins_document) document_text_ = 0;
    if (!block.bad.empty() && !document_is_bad_) {
      document_is_bad_ = true;
      spool_.truncate(documents.back() * width_);
    }
    if (!document_is_bad_) {
      spool_.append(block.tokens);
      document_text_ += block.text_bytes;
    }
    if (!block.ends_document) return;
    if (document_is_bad_) {
      document_is_bad_ = false;
    } else if (document_text_ == 0) {
      ++report.empty;
    } else {
      spool_.append(end_of_document_);
      documents.push_back(spool_.size() / width_);
      report.text_bytes += document_text_;
    }
  }

  SpoolFile& spool_;
  std::size_t width_;
  BadInput bad_input_;
  std::vector<std::byte> end_of_document_;
  std::uint64_t document_text_ = 0;  ///< bytes of the text document under way
  bool document_is_bad_ = false;
};

void check_interrupted(const PrepareOptions& options) {
  if (options.interrupted && options.interrupted()) {
    throw Interrupted(
        fmt::format("interrupted; {} was not written and nothing is left behind; run the same command again",
                    options.output.string()));
  }
}

void check_not_an_input(const PrepareOptions& options, const CorpusFiles& corpus) {
  for (const auto& file : corpus.files) {
    std::error_code error;
    require_usage(!std::filesystem::equivalent(file.path, options.output, error) || error,
                  "--output {} is also an input; choose another name", options.output.string());
  }
}

PrepareReport prepare_on(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress) {
  require_usage(options.threads >= 0, "--threads {}; choose 1 or more, or 0 for all cores", options.threads);
  const auto tokenizer = open_tokenizer(options.tokenizer, options.end_of_document);
  const auto corpus = find_corpus(options.inputs);
  check_not_an_input(options, corpus);
  OutputTarget target(options.output, options.existing);
  const std::size_t width = token_width(*tokenizer);
  const int threads =
      options.threads > 0 ? options.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));

  SpoolFile spool(target.path().string() + ".tokens.partial");
  Collector collector(spool, *tokenizer, width, options.bad_input);
  if (progress) progress({0, corpus.bytes, 0, 0});
  LongLines reader(CorpusReader(corpus.files, std::size_t{1} << 20, [&] { check_interrupted(options); }), corpus.files);
  OrderedPipeline<TextBlock, EncodedBlock>().run(
      threads,
      [&]() -> std::optional<TextBlock> {
        TextBlock block;
        return reader.next(block) ? std::optional(std::move(block)) : std::nullopt;
      },
      [&] {
        // Shared, as std::function must be copyable.
        auto encoder = std::make_shared<BlockEncoder>(corpus.files, *tokenizer, width);
        return [encoder](TextBlock&& block) { return (*encoder)(std::move(block)); };
      },
      [&](EncodedBlock&& block) {
        check_interrupted(options);
        collector.take(block);
        if (progress) {
          progress({block.bytes_read, corpus.bytes, static_cast<std::int64_t>(collector.documents.size() - 1),
                    static_cast<std::int64_t>(spool.size() / width)});
        }
      });

  auto report = std::move(collector.report);
  report.files = static_cast<std::int64_t>(corpus.files.size());
  report.left_out = corpus.left_out;
  report.documents = static_cast<std::int64_t>(collector.documents.size() - 1);
  report.tokens = static_cast<std::int64_t>(spool.size() / width);
  require(report.documents > 0, "there is no text in {}: {}, {} skipped{}; give a corpus with text",
          describe_sources(join_sources(options.inputs)), counted(report.empty, "empty document"), report.skipped,
          report.skipped > 0 ? " (" + report.skipped_examples.front() + ")" : "");
  PartialPath partial(target.path().string() + ".partial");
  report.content_hash = write_dataset(partial.path(),
                                      {.tokens = spool,
                                       .tokenizer = *tokenizer,
                                       .documents = collector.documents,
                                       .source = join_sources(options.inputs)},
                                      [&] { check_interrupted(options); });
  check_interrupted(options);
  partial.finish(target.path());
  return report;
}

}  // namespace

PrepareReport prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress) {
  try {
    return prepare_on(options, progress);
  } catch (const std::bad_alloc&) {
    fail("there is not enough memory to prepare {}; {}", options.output.string(), advice_on_memory);
  }
}

}  // namespace lexring
