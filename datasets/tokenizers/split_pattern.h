/// A regular expression that cuts text into words, as tokenizers state them (Unicode; look-ahead; the meaning of
/// Oniguruma, which Hugging Face's tokenizers use).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lexring {

class SplitPattern {
 public:
  /// Throws Error with what is wrong in the expression and where.
  explicit SplitPattern(const std::string& expression);
  SplitPattern(SplitPattern&&) noexcept;
  ~SplitPattern();

  /// What matching needs beside the expression: one per thread.
  class Matcher {
   public:
    explicit Matcher(const SplitPattern& pattern);
    Matcher(Matcher&&) noexcept;
    ~Matcher();
    /// Every match, and every stretch between two of them, in order, none empty: the whole of `text` (UTF-8).
    void split(std::string_view text, const std::function<void(std::string_view)>& word);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lexring
