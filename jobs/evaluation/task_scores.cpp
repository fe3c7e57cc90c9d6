#include "jobs/evaluation/task_scores.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>

#include "framework/base/error.h"
#include "models/layer_configs.h"

namespace lexring {
namespace {

std::int32_t byte_at(const ScoredText& text, std::int64_t i) {
  return static_cast<unsigned char>(text.text[static_cast<std::size_t>(i)]);
}

/// Which token of each row of a table of logits has the largest; `never`: one that does not count, or -1.
std::vector<std::int32_t> best_tokens(const Tensor& logits, std::int64_t never) {
  std::vector<float> values;
  if (logits.dtype() == Dtype::f32) {
    values = logits.to_host<float>();
  } else {
    const std::vector<double> wide = logits.to_host<double>();
    values.assign(wide.begin(), wide.end());
  }
  const auto vocab = static_cast<std::ptrdiff_t>(logits.dim(1));
  std::vector<std::int32_t> best;
  for (auto row = values.begin(); row != values.end(); row += vocab) {
    if (never >= 0) row[never] = -std::numeric_limits<float>::infinity();
    best.push_back(static_cast<std::int32_t>(std::max_element(row, row + vocab) - row));
  }
  return best;
}

/// Right answers, answers, right bytes, bytes.
using TextScore = std::array<std::int64_t, 4>;

/// What a model says in the places of one text that are scored.
class Marks {
 public:
  Marks(const ScoredText& text, LandmarkSpacing landmarks)
      : text_(text), landmarks_(landmarks), right_(text.answers.size(), true) {}

  /// `best[i]` follows place first + i. A byte is told by the place of the byte before it, even where a landmark stands
  /// between them.
  void read(std::int64_t first, std::span<const std::int32_t> best) {
    const std::int64_t end = landmarks_.tokens_before(first + static_cast<std::int64_t>(best.size()));
    const std::int64_t begin = landmarks_.tokens_before(first);
    for (std::size_t a = 0; a < text_.answers.size(); ++a) {
      const Answer& answer = text_.answers[a];
      for (std::int64_t i = std::max(answer.begin, begin + 1); i < std::min(answer.end, end + 1); ++i) {
        const bool same = best[static_cast<std::size_t>(landmarks_.place(i - 1) - first)] == byte_at(text_, i);
        ++bytes_, right_bytes_ += same ? 1 : 0;
        right_[a] = right_[a] && same;
      }
    }
  }
  TextScore score() const {
    return {std::count(right_.begin(), right_.end(), true), static_cast<std::int64_t>(right_.size()), right_bytes_,
            bytes_};
  }

 private:
  const ScoredText& text_;
  LandmarkSpacing landmarks_;
  std::vector<bool> right_;
  std::int64_t right_bytes_ = 0, bytes_ = 0;
};

/// Texts as a model reads them.
struct TextReading {
  LandmarkSpacing landmarks;
  std::int64_t landmark;

  explicit TextReading(const ModelConfig& config)
      : landmarks{landmark_every_of(config)}, landmark(landmark_of(config)) {}

  std::vector<std::int32_t> ids(const ScoredText& text, std::int64_t first, std::int64_t count) const {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(count), 0);
    for (std::int64_t i = 0; i < std::min(count, places_read(text, landmarks) - first); ++i)
      ids[static_cast<std::size_t>(i)] = landmarks.is_landmark(first + i)
                                             ? static_cast<std::int32_t>(landmark)
                                             : byte_at(text, landmarks.tokens_before(first + i));
    return ids;
  }
};

/// In one forward pass; the shorter ones go on with bytes that nothing before them sees.
std::vector<TextScore> together(Transformer& model, std::span<const ScoredText* const> texts) {
  const TextReading reader(model.config());
  std::int64_t longest = 0;
  for (const ScoredText* text : texts) longest = std::max(longest, places_read(*text, reader.landmarks));
  std::vector<std::int32_t> ids;
  for (const ScoredText* text : texts) {
    const std::vector<std::int32_t> own = reader.ids(*text, 0, longest);
    ids.insert(ids.end(), own.begin(), own.end());
  }
  const ModelBatch batch =
      make_batch(static_cast<std::int64_t>(texts.size()), longest, std::move(ids), {}, {}, sinks_of(model.config()));
  const std::vector<std::int32_t> best = best_tokens(model.logits(batch, Transformer::Rows::all), reader.landmark);
  std::vector<TextScore> scores;
  for (std::size_t t = 0; t < texts.size(); ++t) {
    Marks marks(*texts[t], reader.landmarks);
    marks.read(0, std::span(best).subspan(t * static_cast<std::size_t>(longest),
                                          static_cast<std::size_t>(places_read(*texts[t], reader.landmarks))));
    scores.push_back(marks.score());
  }
  return scores;
}

TextScore streamed(Transformer& model, const ScoredText& text, std::int64_t chunk, StopPoints& stops) {
  const auto cache = model.make_cache();
  const TextReading reader(model.config());
  const LandmarkSpacing& landmarks = reader.landmarks;
  const std::int64_t places = places_read(text, landmarks);
  Marks marks(text, landmarks);
  for (std::int64_t first = 0; first < places; first += chunk) {
    stops.before_pass();
    const std::int64_t count = std::min(chunk, places - first);
    const bool scored = std::any_of(text.answers.begin(), text.answers.end(), [&](const Answer& answer) {
      return landmarks.place(answer.begin - 1) < first + count && landmarks.place(answer.end - 2) >= first;
    });
    const ModelBatch batch =
        make_chunk(first, reader.ids(text, first, count), {},
                   std::vector<std::int64_t>(static_cast<std::size_t>(count), 0), sinks_of(model.config()));
    const Tensor logits = model.logits(batch, scored ? Transformer::Rows::all : Transformer::Rows::last, cache.get());
    if (scored) marks.read(first, best_tokens(logits, reader.landmark));
  }
  return marks.score();
}

/// Texts [first, next) of a replica's share: in one pass, or a long one chunk after chunk.
struct Reading {
  std::size_t first, next;
  std::int64_t passes;
  bool together;
};

/// One size and variant under one series.
class Scoring {
 public:
  Scoring(TaskScore& into, Transformer& model, const Context& context, std::span<const ScoredText> texts,
          std::int64_t chunk, const CellWork& work)
      : into_(into),
        model_(model),
        context_(context),
        texts_(texts),
        chunk_(chunk),
        work_(work),
        parts_(work.parts != nullptr ? *work.parts : nothing_),
        landmarks_{landmark_every_of(model.config())} {
    for (const ScoredText& text : texts) into_.longest = std::max(into_.longest, places_read(text, landmarks_));
    const std::int64_t of_a_pass = std::max<std::int64_t>(chunk / std::max<std::int64_t>(into_.longest, 1), 1);
    of_a_part_ = static_cast<std::size_t>(
        std::max<std::int64_t>(passes_of_a_part * chunk / (of_a_pass * std::max<std::int64_t>(into_.longest, 1)), 1) *
        of_a_pass * context.axis(Axis::dp).size());
  }

  void run() {
    for (const Part& part : parts_.of(work_.name)) add(part);
    for (auto first = static_cast<std::size_t>(parts_.reach(work_.name)); first < texts_.size();) {
      const std::size_t last = std::min(first + of_a_part_, texts_.size());
      const Part part = measure(first, last);
      parts_.add(part);
      add(part);
      first = last;
    }
  }

 private:
  static constexpr std::size_t numbers = std::tuple_size_v<TextScore>;

  Part measure(std::size_t first, std::size_t last) {
    Communicator& replicas = context_.axis(Axis::dp);
    const auto rank = static_cast<std::size_t>(replicas.rank()), size = static_cast<std::size_t>(replicas.size());
    std::vector<const ScoredText*> mine;
    for (std::size_t i = first + rank; i < last; i += size) mine.push_back(&texts_[i]);
    const std::vector<Reading> readings = readings_of(mine);
    std::int64_t passes = 0;
    for (const Reading& reading : readings) passes += reading.passes;
    StopPoints stops(parts_, passes);
    const auto start = std::chrono::steady_clock::now();
    std::vector<TextScore> scores;  // of mine
    for (const Reading& reading : readings) {
      if (reading.together) {
        stops.before_pass();
        const auto some = together(model_, std::span(mine).subspan(reading.first, reading.next - reading.first));
        scores.insert(scores.end(), some.begin(), some.end());
      } else {
        scores.push_back(streamed(model_, *mine[reading.first], chunk_, stops));
      }
      if (work_.progress) work_.progress(static_cast<std::int64_t>(std::min(first + scores.size() * size, last)));
    }
    stops.wait_for_others();
    Part part{work_.name, static_cast<std::int64_t>(first), static_cast<std::int64_t>(last), {}, {}};
    part.counts.resize(numbers * (last - first));
    for (std::size_t i = 0; i < scores.size(); ++i)
      std::copy(scores[i].begin(), scores[i].end(),
                part.counts.begin() + static_cast<std::ptrdiff_t>(numbers * (rank + i * size)));
    replicas.all_reduce(std::span<std::int64_t>(part.counts), Reduce::sum);
    part.numbers = {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    return part;
  }

  std::vector<Reading> readings_of(const std::vector<const ScoredText*>& mine) const {
    std::vector<Reading> readings;
    const bool alone = model_.config().follows_length();  // angles are those of the whole text, and of it alone
    for (std::size_t first = 0; first < mine.size();) {
      std::size_t next = first;
      std::int64_t longest = 0;
      for (; next < mine.size() && !alone; ++next) {
        const std::int64_t with = std::max(longest, places_read(*mine[next], landmarks_));
        if (with * static_cast<std::int64_t>(next - first + 1) > chunk_) break;
        longest = with;
      }
      const bool fits = next > first;
      if (!fits) next = first + 1;
      const std::int64_t chunks = (places_read(*mine[first], landmarks_) + chunk_ - 1) / chunk_;
      readings.push_back({first, next, fits || alone ? 1 : chunks, fits || alone});
      first = next;
    }
    return readings;
  }

  void add(const Part& part) {
    require(part.last <= std::ssize(texts_) && part.numbers.size() == 1 &&
                std::ssize(part.counts) == (part.last - part.first) * static_cast<std::int64_t>(numbers),
            "the texts {} to {} of {}, which were kept, are not those that are scored; begin anew with --overwrite",
            part.first, part.last, part.of);
    for (auto of_text = part.counts.begin(); of_text != part.counts.end(); of_text += numbers) {
      into_.answers.add_text(of_text[0], of_text[1]);
      into_.bytes.add_text(of_text[2], of_text[3]);
      into_.text_right.push_back(of_text[0]);
      into_.text_answers.push_back(of_text[1]);
    }
    into_.texts += part.last - part.first;
    into_.seconds += part.numbers[0];
  }

  TaskScore& into_;
  Transformer& model_;
  const Context& context_;
  std::span<const ScoredText> texts_;
  std::int64_t chunk_;
  const CellWork& work_;
  KeptParts nothing_;
  KeptParts& parts_;
  LandmarkSpacing landmarks_;
  std::size_t of_a_part_ = 1;
};

}  // namespace

std::int64_t places_read(const ScoredText& text, LandmarkSpacing landmarks) {
  return landmarks.place(static_cast<std::int64_t>(text.text.size()) - 2) + 1;
}

void Share::add_text(std::int64_t right, std::int64_t of) {
  right_ += right, of_ += of;
  right_right_ += right * right, right_of_ += right * of, of_of_ += of * of;
}

Share& Share::operator+=(const Share& other) {
  right_ += other.right_, of_ += other.of_;
  right_right_ += other.right_right_, right_of_ += other.right_of_, of_of_ += other.of_of_;
  return *this;
}

double Share::independent() const {
  const auto n = static_cast<double>(of_);
  // All right or all wrong says nothing of how they go together: then each text counts once.
  const double most = std::max(1.0, static_cast<double>(of_of_) / n);
  if (right_ == 0 || right_ == of_) return n / most;
  const double p = value(), spread = static_cast<double>(right_right_) - 2 * p * static_cast<double>(right_of_) +
                                     p * p * static_cast<double>(of_of_);
  return n / std::clamp(spread / (n * p * (1 - p)), 1.0, most);
}

Share::Interval Share::interval() const {
  if (of_ == 0) return {0, 1};
  constexpr double z = 1.959963984540054;  // 95 % of a normal distribution
  const double n = independent(), p = value(), wide = 1 + z * z / n;
  const double middle = (p + z * z / (2 * n)) / wide,
               half = z / wide * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

void score(TaskScore& into, Transformer& model, const Context& context, std::span<const ScoredText> texts,
           std::int64_t chunk, const CellWork& work) {
  require(chunk >= 1, "texts cannot be read in chunks of {} tokens", chunk);
  Scoring(into, model, context, texts, chunk, work).run();
}

}  // namespace lexring
