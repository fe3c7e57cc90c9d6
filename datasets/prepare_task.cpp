#include "datasets/prepare_task.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "datasets/byte_stream.h"
#include "datasets/dataset_writer.h"
#include "datasets/partial_file.h"
#include "datasets/prepare.h"
#include "datasets/tasks/task_random.h"
#include "framework/base/counted.h"
#include "framework/base/error.h"

namespace lexring {
namespace {

/// Texts laid into windows.
class Layout {
 public:
  Layout(SpoolFile& spool, const Tokenizer& tokenizer, std::int64_t window)
      : spool_(spool), tokenizer_(tokenizer), window_(static_cast<std::uint64_t>(window)) {}

  void add(const ScoredText& text) {
    ids_.clear();
    tokenizer_.encode(text.text, ids_);
    ids_.push_back(static_cast<std::uint32_t>(tokenizer_.end_of_document()));
    if (left() < ids_.size()) fill();
    for (const Answer& answer : text.answers) {
      answers.push_back(documents.back() + static_cast<std::uint64_t>(answer.begin));
      answers.push_back(documents.back() + static_cast<std::uint64_t>(answer.end));
    }
    append();
  }
  /// The last window, and the token behind it that is the target of its last.
  void finish() {
    if (left() < window_) fill();
    ids_.assign(1, static_cast<std::uint32_t>(tokenizer_.end_of_document()));
    append();
  }

  std::vector<std::uint64_t> documents{0}, answers;

 private:
  std::uint64_t left() const { return window_ - documents.back() % window_; }
  void fill() {
    std::vector<std::uint32_t> rest(left(), static_cast<std::uint32_t>(tokenizer_.end_of_document()));
    std::swap(ids_, rest);
    append();
    std::swap(ids_, rest);
  }
  void append() {
    const std::size_t width = token_width(tokenizer_);
    std::vector<std::byte> packed(ids_.size() * width);
    for (std::size_t i = 0; i < ids_.size(); ++i) std::memcpy(packed.data() + i * width, &ids_[i], width);
    spool_.append(packed);
    documents.push_back(documents.back() + ids_.size());
  }

  SpoolFile& spool_;
  const Tokenizer& tokenizer_;
  std::uint64_t window_;
  std::vector<std::uint32_t> ids_;
};

void check_interrupted(const TaskDataset& options) {
  if (options.interrupted && options.interrupted())
    throw Interrupted(
        fmt::format("interrupted; {} was not written and nothing is left behind", options.output.string()));
}

std::string describe(const TaskDataset& options) {
  return fmt::format("task {}, sizes {} to {}, {}, seed {}", options.task, options.least, options.most,
                     counted(options.count, "text"), options.seed);
}

}  // namespace

ScoredText text_of_series(const Task& task, std::uint64_t seed, std::int64_t index, std::int64_t least,
                          std::int64_t most, const TaskSettings& settings) {
  TaskRandom of_text(TaskRandom(seed).next() + static_cast<std::uint64_t>(index));
  const std::int64_t size = of_text.between(least, most);
  return make_text(task, of_text.next(), size, settings);
}

namespace {

TaskReport prepare_on(const TaskDataset& options, const std::function<void(std::int64_t)>& progress) {
  const Task& task = find_task(options.task);
  require_usage(options.most >= options.least, "sizes {} to {} of task {} are impossible; give the least first",
                options.least, options.most, task.name);
  check_size(task, options.least), check_size(task, options.most);
  require_usage(options.settings.depth == -1 || options.settings.depth >= 0,
                "depth = {} is no share of the filler; choose from 0 to 1, or -1 to draw it", options.settings.depth);
  require_usage(options.count >= 1, "a dataset of {} texts is impossible", options.count);
  const auto tokenizer = make_tokenizer("bytes");
  const auto text_at = [&](std::int64_t i) {
    if (i % 256 == 0) check_interrupted(options);
    return text_of_series(task, options.seed, i, options.least, options.most, options.settings);
  };
  std::int64_t longest = 0;
  for (std::int64_t i = 0; i < options.count; ++i)
    longest = std::max(longest, static_cast<std::int64_t>(text_at(i).text.size()) + 1);
  TaskReport report;
  report.window = options.window > 0 ? options.window : longest;
  require_usage(report.window >= longest, "windows of {} do not hold the longest text, which has {} with its end",
                counted(report.window, "token"), longest);

  OutputTarget target(options.output, options.existing);
  SpoolFile spool(target.path().string() + ".tokens.partial");
  Layout layout(spool, *tokenizer, report.window);
  for (std::int64_t i = 0; i < options.count; ++i) {
    layout.add(text_at(i));
    if (progress) progress(i + 1);
  }
  layout.finish();
  report.texts = options.count;
  report.answers = static_cast<std::int64_t>(layout.answers.size() / 2);
  report.tokens = static_cast<std::int64_t>(layout.documents.back());
  PartialPath partial(target.path().string() + ".partial");
  report.content_hash = write_dataset(partial.path(),
                                      {.tokens = spool,
                                       .tokenizer = *tokenizer,
                                       .documents = layout.documents,
                                       .answers = layout.answers,
                                       .window = report.window,
                                       .source = describe(options)},
                                      [&] { check_interrupted(options); });
  partial.finish(target.path());
  return report;
}

}  // namespace

TaskReport prepare_task(const TaskDataset& options, const std::function<void(std::int64_t)>& progress) {
  try {
    return prepare_on(options, progress);
  } catch (const std::bad_alloc&) {
    fail("there is not enough memory to prepare {}; {}", options.output.string(), advice_on_memory);
  }
}

}  // namespace lexring
