/// Text -> a dataset (datasets/dataset.h), on all cores, in memory that does not grow with the corpus.
///
/// A thread reads and cuts, `threads` parse, check and tokenise, the calling thread writes tokens in the corpus' order
/// to OUTPUT.tokens.partial. When their number is known OUTPUT.partial is written as HDF5, flushed to disk, and renamed
/// to OUTPUT. The file is the same for any number of threads. Whatever ends it early (an error, an interruption),
/// OUTPUT stays as it was before and both partial files and new directories are removed; those of a run that was killed
/// are overwritten by the next. It needs about twice the output's size on disk while it runs, plus 8 bytes of memory
/// per document.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "datasets/directory_walk.h"
#include "datasets/output_target.h"
#include "framework/base/error.h"

namespace lexring {

/// Work that was told to stop did, and left nothing half done.
class Interrupted : public Error {
 public:
  using Error::Error;
};

enum class BadInput { refuse, skip };

struct PrepareOptions {
  std::vector<std::string> inputs;  ///< files and directories, see datasets/corpus.h
  std::filesystem::path output;     ///< links are followed and directories made, see datasets/output_target.h
  Existing existing = Existing::refuse;
  std::string tokenizer = "bytes";  ///< as open_tokenizer takes it, with
  std::string end_of_document = "";
  BadInput bad_input = BadInput::refuse;
  int threads = 0;  ///< 0: all cores
  std::function<bool()>
      interrupted;  ///< asked a few times a second, by two threads; true ends the work with Interrupted
};

struct PrepareProgress {
  std::uint64_t bytes = 0, total_bytes = 0;  ///< on disk (compressed)
  std::int64_t documents = 0, tokens = 0;
};

struct PrepareReport {
  std::int64_t files = 0, documents = 0, tokens = 0;
  std::uint64_t text_bytes = 0;               ///< UTF-8, of the documents
  std::int64_t empty = 0;                     ///< documents without text, left out
  std::int64_t replaced_surrogates = 0;       ///< lone halves of a character in JSON ("\ud800"), now U+FFFD
  std::int64_t skipped = 0;                   ///< bad lines and files left out (BadInput::skip)
  std::vector<std::string> skipped_examples;  ///< the first few, as messages
  LeftOut left_out;                           ///< entries of directories
  std::string content_hash;
};

/// Throws UsageError for impossible options and inputs that do not exist; Error naming file and line for text that is
/// not sound (unless skipped), and for everything that reading and writing run into.
PrepareReport prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress = {});

}  // namespace lexring
