#include "tests/framework/backend/attention_problem.h"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <random>

namespace lexring::testing {
namespace {

using Rows = std::vector<std::int64_t>;

std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

/// One block of one side: its table, and where its rows stand in the whole.
struct Part {
  TokenTable table;
  Rows rows;
};

std::vector<Part> cut(const TokenTable& tokens, int blocks) {
  std::vector<Part> parts(size(blocks));
  for (int b = 0; b < blocks; ++b)
    for (const auto& s : tokens.sequences) {
      const std::int64_t begin = s.first + s.count * b / blocks, end = s.first + s.count * (b + 1) / blocks;
      Part& part = parts[size(b)];
      if (begin == end) continue;
      part.table.sequences.push_back({s.id, part.table.rows(), end - begin});
      for (std::int64_t row = begin; row < end; ++row) {
        part.table.position.push_back(tokens.position[size(row)]);
        if (!tokens.coordinate.empty()) part.table.coordinate.push_back(tokens.coordinate[size(row)]);
        part.rows.push_back(row);
      }
    }
  return parts;
}

Values gather(const Values& whole, const Rows& rows, std::int64_t width) {
  Values result;
  for (const std::int64_t row : rows)
    result.insert(result.end(), whole.begin() + row * width, whole.begin() + (row + 1) * width);
  return result;
}

void scatter(const Values& part, const Rows& rows, std::int64_t width, Values& whole) {
  for (std::size_t i = 0; i < rows.size(); ++i)
    std::copy_n(part.begin() + static_cast<std::int64_t>(i) * width, width, whole.begin() + rows[i] * width);
}

Rows gather(const Rows& whole, const Rows& rows) {
  Rows result;
  for (const std::int64_t row : rows)
    if (!whole.empty()) result.push_back(whole[size(row)]);
  return result;
}

/// Columns of one matrix: query, key and value lie side by side as they do in a fused product.
Columns beside(Backend& backend, Dtype dtype, const Values& values, std::int64_t rows, std::int64_t width,
               std::int64_t before, std::int64_t after) {
  const std::int64_t stride = before + width + after;
  Values matrix(size(rows * stride), std::nan(""));
  for (std::int64_t n = 0; n < rows; ++n)
    std::copy_n(values.begin() + n * width, width, matrix.begin() + n * stride + before);
  return {make(backend, {rows, stride}, dtype, matrix), before, width};
}

Columns empty_beside(Backend& backend, Dtype dtype, std::int64_t rows, std::int64_t width, std::int64_t before,
                     std::int64_t after) {
  return {make_output(backend, {rows, before + width + after}, dtype), before, width};
}

/// The columns' values; nothing beside them may have been touched.
Values read_columns(const Columns& columns) {
  const Values matrix = read(columns.matrix);
  Values result;
  for (std::int64_t n = 0; n < columns.rows(); ++n)
    for (std::int64_t i = 0; i < columns.stride(); ++i) {
      const double value = matrix[size(n * columns.stride() + i)];
      if (i >= columns.first && i < columns.first + columns.width) result.push_back(value);
      else require(std::isnan(value), "a kernel wrote beside its columns, at row {} column {}", n, i);
    }
  return result;
}

}  // namespace

RotaryTable make_rotary(Backend& backend, Dtype master, const AttentionProblem& problem, const TokenTable& tokens) {
  if (!problem.form.rotary) return {};
  Values cosine, sine;
  for (std::size_t n = 0; n < tokens.position.size(); ++n)
    for (std::int64_t i = 0; i < problem.form.head_width / 2; ++i) {
      const double angle =
          tokens.coordinate_of(n) *
          std::pow(problem.angle_step, static_cast<double>(i) * 8 / static_cast<double>(problem.form.head_width));
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  const Shape shape{tokens.rows(), problem.form.head_width / 2};
  return {make(backend, shape, master, cosine), make(backend, shape, master, sine)};
}

namespace {

/// One run of one problem, block by block.
class Run {
 public:
  Run(Backend& backend, Dtype working, const AttentionProblem& problem, const AttentionInputs& inputs, Blocks blocks)
      : backend_(backend),
        working_(working),
        master_(working == Dtype::f64 ? Dtype::f64 : Dtype::f32),
        problem_(problem),
        inputs_(inputs),
        queries_(cut(problem.queries, blocks.queries)),
        keys_(cut(problem.keys, blocks.keys)) {
    const std::int64_t n = problem.queries.rows(), m = problem.keys.rows();
    result_.output.resize(size(n * problem.query_width()));
    result_.lse.resize(size(n * problem.form.heads));
    result_.delta = result_.lse;
    result_.dq = result_.output;
    result_.dk.resize(size(m * problem.key_width()));
    result_.dv = result_.dk;
    if (problem.query_terms.empty()) return;
    result_.dquery_terms.resize(size(n * problem.form.heads));
    result_.dkey_terms.resize(size(m * problem.form.heads));
  }

  AttentionResult operator()(const AttentionResult* statistics) {
    for (const Part& query : queries_) forward(query);
    backward(statistics ? *statistics : result_);
    return result_;
  }

 private:
  Columns q(const Part& p) {
    return beside(backend_, working_, gather(inputs_.q, p.rows, query_width()), p.table.rows(), query_width(), 0,
                  2 * key_width());
  }
  Columns k(const Part& p) {
    return beside(backend_, working_, gather(inputs_.k, p.rows, key_width()), p.table.rows(), key_width(),
                  query_width(), key_width());
  }
  Columns v(const Part& p) {
    return beside(backend_, working_, gather(inputs_.v, p.rows, key_width()), p.table.rows(), key_width(),
                  query_width() + key_width(), 0);
  }
  std::int64_t query_width() const { return problem_.query_width(); }
  std::int64_t key_width() const { return problem_.key_width(); }

  SharedRows query_rows(const Part& p) const {
    return make_rows(p.table, make_rotary(backend_, master_, problem_, p.table), visibility(p));
  }
  SharedRows key_rows(const Part& p) const {
    return make_rows(p.table, make_rotary(backend_, master_, problem_, p.table));
  }
  Visibility visibility(const Part& p) const {
    return {gather(problem_.visible.first, p.rows), gather(problem_.visible.sink_begin, p.rows),
            gather(problem_.visible.sink_end, p.rows), gather(problem_.visible.end, p.rows)};
  }

  RowTerms terms(const Part& query, const Part& key) const {
    if (problem_.query_terms.empty()) return {};
    const std::int64_t width = 2 * problem_.form.heads;
    return {make(backend_, {query.table.rows(), width}, master_, gather(problem_.query_terms, query.rows, width)),
            make(backend_, {key.table.rows(), width}, master_, gather(problem_.key_terms, key.rows, width))};
  }
  /// Added to what is there.
  Tensor term_gradients(const Part& p) const {
    if (problem_.query_terms.empty()) return {};
    const std::int64_t elements = p.table.rows() * problem_.form.heads;
    return make(backend_, {p.table.rows(), problem_.form.heads}, master_, Values(size(elements), 0.25));
  }
  void scatter_terms(const Tensor& gradients, const Part& p, Values& to) const {
    if (!gradients.defined()) return;
    Values values = read(gradients);
    for (double& x : values) x -= 0.25;
    scatter(values, p.rows, problem_.form.heads, to);
  }

  void forward(const Part& query) {
    const std::int64_t n = query.table.rows(), heads = problem_.form.heads;
    const SharedRows rows = query_rows(query);
    const ScoreBias bias = problem_.bias(backend_, master_);
    AttentionState state{make_output(backend_, {n, query_width()}, master_), make_output(backend_, {n, heads}, master_),
                         make_output(backend_, {n, heads}, master_)};
    if (keys_.size() == 1) state = {};
    const Tensor output = make_output(backend_, {n, query_width()}, working_),
                 lse = make_output(backend_, {n, heads}, master_);
    for (const Part& key : keys_) {
      backend_.attention({problem_.form,
                          bias,
                          rows,
                          key_rows(key),
                          q(query),
                          k(key),
                          v(key),
                          {&key == &keys_.front(), &key == &keys_.back()},
                          state,
                          output,
                          lse,
                          terms(query, key)});
    }
    const Tensor doutput =
        make(backend_, {n, query_width()}, working_, gather(inputs_.doutput, query.rows, query_width()));
    const Tensor delta = make_output(backend_, {n, heads}, master_);
    backend_.attention_delta(output, doutput, delta);
    scatter(read(output), query.rows, query_width(), result_.output);
    scatter(read(lse), query.rows, heads, result_.lse);
    scatter(read(delta), query.rows, heads, result_.delta);
  }

  void backward(const AttentionResult& statistics) {
    struct KeySide {
      Tensor dk_state, dv_state;
      Columns dk, dv;
      Tensor terms;
    };
    std::vector<KeySide> sides;
    for (const Part& key : keys_) {
      const std::int64_t m = key.table.rows();
      KeySide side{{},
                   {},
                   empty_beside(backend_, working_, m, key_width(), query_width(), key_width()),
                   empty_beside(backend_, working_, m, key_width(), query_width() + key_width(), 0),
                   term_gradients(key)};
      if (queries_.size() > 1) {
        side.dk_state = make_output(backend_, {m, key_width()}, master_);
        side.dv_state = make_output(backend_, {m, key_width()}, master_);
      }
      sides.push_back(side);
    }
    const ScoreBias bias = problem_.bias(backend_, master_);
    Tensor dby_distance;
    if (bias.by_distance.defined()) {  // added to what is there
      dby_distance = make(backend_, bias.by_distance.shape(), master_, Values(problem_.by_distance.size(), 0.5));
    }
    for (const Part& query : queries_) {
      const std::int64_t n = query.table.rows(), heads = problem_.form.heads;
      const SharedRows rows = query_rows(query);
      const Tensor doutput =
          make(backend_, {n, query_width()}, working_, gather(inputs_.doutput, query.rows, query_width()));
      const Tensor output =
          make(backend_, {n, query_width()}, working_, gather(statistics.output, query.rows, query_width()));
      const Tensor lse = make(backend_, {n, heads}, master_, gather(statistics.lse, query.rows, heads));
      const Tensor delta = make(backend_, {n, heads}, master_, gather(statistics.delta, query.rows, heads));
      Tensor dq_state;
      if (keys_.size() > 1) dq_state = make_output(backend_, {n, query_width()}, master_);
      const Tensor of_terms = term_gradients(query);
      const Columns dq = empty_beside(backend_, working_, n, query_width(), 0, 2 * key_width());
      for (std::size_t b = 0; b < keys_.size(); ++b) {
        backend_.attention_backward({problem_.form,
                                     bias,
                                     rows,
                                     key_rows(keys_[b]),
                                     q(query),
                                     k(keys_[b]),
                                     v(keys_[b]),
                                     output,
                                     doutput,
                                     lse,
                                     delta,
                                     {b == 0, b + 1 == keys_.size()},
                                     {&query == &queries_.front(), &query == &queries_.back()},
                                     dq_state,
                                     sides[b].dk_state,
                                     sides[b].dv_state,
                                     dq,
                                     sides[b].dk,
                                     sides[b].dv,
                                     dby_distance,
                                     terms(query, keys_[b]),
                                     of_terms,
                                     sides[b].terms});
      }
      scatter(read_columns(dq), query.rows, query_width(), result_.dq);
      scatter_terms(of_terms, query, result_.dquery_terms);
    }
    for (std::size_t b = 0; b < keys_.size(); ++b) {
      scatter(read_columns(sides[b].dk), keys_[b].rows, key_width(), result_.dk);
      scatter(read_columns(sides[b].dv), keys_[b].rows, key_width(), result_.dv);
      scatter_terms(sides[b].terms, keys_[b], result_.dkey_terms);
    }
    if (!dby_distance.defined()) return;
    result_.dby_distance = read(dby_distance);
    for (double& x : result_.dby_distance) x -= 0.5;
    if (!bias.relative()) return;
    const std::size_t columns = size(bias.distances()), c = columns / 3 * 2;
    for (std::size_t h = 1; h < size(problem_.form.heads); ++h) {
      for (const std::size_t column : {c, c + 1})
        result_.dby_distance[column] += std::exchange(result_.dby_distance[h * columns + column], 0.0);
    }
  }

  Backend& backend_;
  Dtype working_, master_;
  const AttentionProblem& problem_;
  const AttentionInputs& inputs_;
  std::vector<Part> queries_, keys_;
  AttentionResult result_;
};

}  // namespace

void PrintTo(const AttentionProblem& problem, std::ostream* os) { *os << problem.name; }

ScoreBias AttentionProblem::bias(Backend& backend, Dtype statistics) const {
  ScoreBias bias{slopes, {}};
  if (!by_distance.empty()) {
    const auto distances = static_cast<std::int64_t>(by_distance.size()) / form.heads;
    Values rows = by_distance;
    const std::size_t columns = size(distances), c = columns / 3 * 2;
    for (std::size_t h = 1; relative && h < size(form.heads); ++h)
      std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(c), 2,
                  rows.begin() + static_cast<std::ptrdiff_t>(h * columns + c));
    bias.by_distance = make(backend, {form.heads, distances}, statistics, rows);
    if (!relative) return bias;
    std::int64_t longest = 0;
    for (const std::int64_t position : queries.position) longest = std::max(longest, position);
    Values logs;
    for (std::int64_t d = 0; d <= longest; ++d) logs.push_back(std::log1p(rows[c] * static_cast<double>(d)));
    for (std::int64_t d = 0; d <= longest; ++d)
      logs.push_back(static_cast<double>(d) / (1 + rows[c] * static_cast<double>(d)));
    bias.log_distance = make(backend, {2, longest + 1}, statistics, logs);
  }
  return bias;
}

namespace {

/// Four pieces that meet, another slope in each.
Values relative_rows(std::int64_t heads) {
  constexpr std::size_t pieces = 4;
  const double knots[] = {0.2, 0.45, 0.7};
  const Values slopes = random_values(heads * static_cast<std::int64_t>(pieces), 77, 2.0);
  Values rows;
  for (std::size_t h = 0; h < size(heads); ++h) {
    Values values = {0.3};
    for (std::size_t p = 1; p < pieces; ++p)
      values.push_back(values.back() + (slopes[h * pieces + p - 1] - slopes[h * pieces + p]) * knots[p - 1]);
    rows.insert(rows.end(), slopes.begin() + static_cast<std::ptrdiff_t>(h * pieces),
                slopes.begin() + static_cast<std::ptrdiff_t>((h + 1) * pieces));
    rows.insert(rows.end(), values.begin(), values.end());
    rows.insert(rows.end(), {0.4, 30.7});
    rows.insert(rows.end(), std::begin(knots), std::end(knots));
  }
  return rounded_to(Dtype::f32, rows);
}

/// [rows, 2 H]: numbers of positions that are too large for one f32 each.
Values falling_terms(std::int64_t heads, const TokenTable& tokens) {
  Values terms;
  for (const std::int64_t position : tokens.position) {
    Values low;
    for (std::int64_t h = 0; h < heads; ++h) {
      const double place = static_cast<double>(position), head = static_cast<double>(h);
      const double term = -0.07 * (head + 1) * place + std::sin(1.7 * place + head);
      terms.push_back(static_cast<float>(term));
      low.push_back(static_cast<float>(term - terms.back()));
    }
    terms.insert(terms.end(), low.begin(), low.end());
  }
  return terms;
}

}  // namespace

AttentionForm make_form(const std::string& method, std::int64_t heads, std::int64_t kv_heads, std::int64_t width) {
  AttentionForm form;
  form.heads = heads;
  form.kv_heads = kv_heads;
  form.head_width = width;
  form.scale = 1 / std::sqrt(static_cast<double>(width));
  form.rotary = method == "rope" || method == "xpos" || method == "steep";
  form.rotary = form.rotary || method == "later_xpos";
  if (method.starts_with("capped")) form.softcap = 0.8;
  if (method.starts_with("clamped")) form.clamp = -0.3;
  if (method.starts_with("relu")) form.normalizer = Normalizer::relu;
  const double half = static_cast<double>(width) / 2;
  for (std::int64_t i = 0; i < width / 2; ++i) {
    const double zeta = (static_cast<double>(i) / half + 0.4) / 1.4;
    if (method == "xpos") form.log_decay.push_back(std::log(zeta) / 512);
    if (method == "later_xpos") form.log_decay.push_back(-std::log(zeta) / 512);
    if (method == "steep") form.log_decay.push_back(-1 + static_cast<double>(i) / half);
  }
  return form;
}

AttentionProblem make_problem(std::string name, const std::string& method, std::int64_t heads, std::int64_t kv_heads,
                              std::int64_t width, TokenTable queries, TokenTable keys, Visibility visible) {
  AttentionProblem problem;
  problem.name = std::move(name);
  problem.form = make_form(method, heads, kv_heads, width);
  problem.queries = std::move(queries), problem.keys = std::move(keys), problem.visible = std::move(visible);
  for (std::int64_t h = 0; h < heads && method.find("alibi") != std::string::npos; ++h)
    problem.slopes.push_back(
        static_cast<float>(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(heads))));
  if (method.ends_with("table")) problem.by_distance = rounded_to(Dtype::f32, random_values(heads * 41, 77));
  if (method.ends_with("fire")) problem.by_distance = relative_rows(heads), problem.relative = true;
  if (method.find("gate") != std::string::npos) {
    problem.query_terms = falling_terms(heads, problem.queries);
    problem.key_terms = falling_terms(heads, problem.keys);
  }
  return problem;
}

TokenTable make_table(const std::vector<Span>& sequences) {
  TokenTable table;
  for (const Span& s : sequences) {
    table.sequences.push_back({s.id, table.rows(), static_cast<std::int64_t>(s.positions.size())});
    table.position.insert(table.position.end(), s.positions.begin(), s.positions.end());
  }
  return table;
}

TokenTable with_fractions(TokenTable table) {
  for (const std::int64_t position : table.position) {
    const auto p = static_cast<double>(position);
    table.coordinate.push_back(0.83 * p + 0.4 * std::sin(p) - 20);
  }
  return table;
}

std::vector<std::int64_t> consecutive(std::int64_t count, std::int64_t offset) { return clusters({offset}, count); }

std::vector<std::int64_t> with_gaps(std::int64_t count, std::int64_t largest_gap, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<std::int64_t> positions;
  std::int64_t next = 3;
  for (std::int64_t i = 0; i < count; ++i) {
    positions.push_back(next);
    next += 1 + static_cast<std::int64_t>(generator() % static_cast<std::uint64_t>(largest_gap));
  }
  return positions;
}

std::vector<std::int64_t> clusters(const std::vector<std::int64_t>& starts, std::int64_t run) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t start : starts)
    for (std::int64_t i = 0; i < run; ++i) positions.push_back(start + i);
  return positions;
}

Visibility make_visibility(const std::string& pattern, std::int64_t extent, const TokenTable& queries) {
  const bool sinks = pattern == "sink_window" || pattern == "documents_sinks";
  Visibility visible;
  for (const auto& s : queries.sequences) {
    const std::int64_t start = s.count > 0 ? queries.position[size(s.first)] : 0,
                       last = s.count > 0 ? queries.position[size(s.first + s.count - 1)] : 0;
    for (std::int64_t row = s.first; row < s.first + s.count; ++row) {
      const std::int64_t n = queries.position[size(row)];
      std::int64_t first = 0, sink_begin = std::min<std::int64_t>(start, 1);
      if (pattern == "window" || pattern == "sink_window") first = std::max<std::int64_t>(0, n - extent + 1);
      if (pattern == "blockwise") first = std::max<std::int64_t>(0, (n / extent - 1) * extent);
      if (pattern == "chunked") first = n / extent * extent;
      if (pattern == "documents" || pattern == "documents_sinks") sink_begin = first = n / extent * extent;
      if (pattern == "documents_sinks") first = std::max(first, n - extent / 4);
      if (pattern == "holes" && row % 3 == 1) first = n + 1;
      if (pattern == "later") first = n + 1;
      if (pattern == "full_documents") first = n / extent * extent;
      visible.first.push_back(first);
      if (pattern == "full" || pattern == "later") visible.end.push_back(last + 1);
      if (pattern == "full_documents") visible.end.push_back((n / extent + 1) * extent);
      if (sinks) {
        visible.sink_begin.push_back(sink_begin);
        visible.sink_end.push_back(sink_begin + 4);
      }
    }
  }
  return visible;
}

AttentionInputs random_inputs(const AttentionProblem& problem, std::uint64_t seed, double scale) {
  const std::int64_t n = problem.queries.rows(), m = problem.keys.rows();
  return {random_values(n * problem.query_width(), seed, scale),
          random_values(m * problem.key_width(), seed + 1, scale), random_values(m * problem.key_width(), seed + 2),
          random_values(n * problem.query_width(), seed + 3)};
}

AttentionInputs rounded_to(Dtype dtype, const AttentionInputs& inputs) {
  return {rounded_to(dtype, inputs.q), rounded_to(dtype, inputs.k), rounded_to(dtype, inputs.v),
          rounded_to(dtype, inputs.doutput)};
}

AttentionResult run_attention(Backend& backend, Dtype working, const AttentionProblem& problem,
                              const AttentionInputs& inputs, Blocks blocks, const AttentionResult* statistics) {
  return Run(backend, working, problem, inputs, blocks)(statistics);
}

}  // namespace lexring::testing
