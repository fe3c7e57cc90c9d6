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

TextScore streamed(Transformer& model, const ScoredText& text, std::int64_t chunk) {
  const auto cache = model.make_cache();
  const TextReading reader(model.config());
  const LandmarkSpacing& landmarks = reader.landmarks;
  const std::int64_t places = places_read(text, landmarks);
  Marks marks(text, landmarks);
  for (std::int64_t first = 0; first < places; first += chunk) {
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
           std::int64_t chunk, const std::function<void(std::int64_t)>& progress) {
  require(chunk >= 1, "texts cannot be read in chunks of {} tokens", chunk);
  const auto start = std::chrono::steady_clock::now();
  Communicator& replicas = context.axis(Axis::dp);
  std::vector<const ScoredText*> mine;
  for (std::size_t i = static_cast<std::size_t>(replicas.rank()); i < texts.size();
       i += static_cast<std::size_t>(replicas.size()))
    mine.push_back(&texts[i]);
  const LandmarkSpacing landmarks{landmark_every_of(model.config())};
  std::vector<TextScore> scores;                       // of mine
  const bool alone = model.config().follows_length();  // angles are those of the whole text, and of it alone
  for (std::size_t first = 0; first < mine.size();) {
    std::size_t next = first;
    std::int64_t longest = 0;
    for (; next < mine.size() && !alone; ++next) {
      const std::int64_t with = std::max(longest, places_read(*mine[next], landmarks));
      if (with * static_cast<std::int64_t>(next - first + 1) > chunk) break;
      longest = with;
    }
    const bool fits = next > first;
    if (!fits) next = first + 1;
    if (fits || alone) {
      const auto some = together(model, std::span(mine).subspan(first, next - first));
      scores.insert(scores.end(), some.begin(), some.end());
    } else {
      scores.push_back(streamed(model, *mine[first], chunk));
    }
    if (progress) progress(static_cast<std::int64_t>(next - first));
    first = next;
  }
  constexpr std::size_t numbers = std::tuple_size_v<TextScore>;
  std::vector<std::int64_t> all(numbers * texts.size(), 0);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::size_t text = static_cast<std::size_t>(replicas.rank()) + i * static_cast<std::size_t>(replicas.size());
    std::copy(scores[i].begin(), scores[i].end(), all.begin() + static_cast<std::ptrdiff_t>(numbers * text));
  }
  replicas.all_reduce(std::span<std::int64_t>(all), Reduce::sum);
  for (std::size_t t = 0; t < texts.size(); ++t) {
    const std::int64_t* of_text = all.data() + numbers * t;
    into.answers.add_text(of_text[0], of_text[1]);
    into.bytes.add_text(of_text[2], of_text[3]);
    into.text_right.push_back(of_text[0]);
    into.text_answers.push_back(of_text[1]);
  }
  into.texts = static_cast<std::int64_t>(texts.size());
  for (const ScoredText& text : texts) into.longest = std::max(into.longest, places_read(text, landmarks));
  into.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace lexring
