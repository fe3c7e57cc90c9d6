#include "parallel/sequence/head_exchange.h"

#include "framework/base/counted.h"
#include "parallel/heads.h"
#include "parallel/sequence/rows.h"
#include "parallel/sequence/travel.h"

namespace lexring {

HeadExchange::HeadExchange(Communicator& group, const AttentionForm& whole, std::vector<std::int64_t> borders)
    : group_(&group), borders_(std::move(borders)) {
  const int ranks = group.size();
  require_usage(heads_fit(whole.heads, whole.kv_heads, ranks),
                "mesh.ulysses = {} does not fit {} with {}: it must divide the former, and divide the latter or be "
                "a multiple of them",
                ranks, counted(whole.heads, "head"), counted(whole.kv_heads, "key and value head"));
  const std::int64_t width = whole.head_width, keys_at = whole.heads * width,
                     values_at = keys_at + whole.kv_heads * width;
  for (int r = 0; r < ranks; ++r) {
    const HeadShare share = head_share(whole, r, ranks);
    const ColumnSpan queries{share.first * width, share.heads * width};
    const std::int64_t first_key = share.kv_first * width, key_width = share.kv_heads * width;
    fused_.push_back({queries, {keys_at + first_key, key_width}, {values_at + first_key, key_width}});
    output_.push_back({queries});
  }
  fused_width_ = values_at + whole.kv_heads * width;
  output_width_ = keys_at;
  const HeadShare own = head_share(whole, group.rank(), ranks);
  form_ = form_of(whole, own);
  first_head_ = own.first;
}

Tensor HeadExchange::exchange_for_heads(Backend& backend, const Tensor& x, const SpansByRank& columns) const {
  const std::int64_t rows = x.rows();
  std::int64_t width = 0;  // the same on every rank
  for (const ColumnSpan& span : columns.front()) width += span.width;
  const Tensor all(backend.runtime(), {borders_.back(), width}, x.dtype());
  Messages messages;
  for (int r = 0; r < group_->size(); ++r) {
    const Tensor part(backend.runtime(), {rows, width}, x.dtype());
    std::int64_t at = 0;
    for (const ColumnSpan& span : columns[static_cast<std::size_t>(r)]) {
      backend.copy({x, span.first, span.width}, {part, at, span.width});
      at += span.width;
    }
    messages.send(r, part);
    messages.receive(r, all.slice(border(r), border(r + 1) - border(r)));
  }
  messages.start(*group_);
  messages.wait();
  return all;
}

Tensor HeadExchange::exchange_for_rows(Backend& backend, const Tensor& x, const SpansByRank& columns,
                                       std::int64_t width) const {
  const std::int64_t rows = border(group_->rank() + 1) - border(group_->rank());
  Messages messages;
  std::vector<Tensor> parts;
  for (int r = 0; r < group_->size(); ++r) {
    messages.send(r, x.slice(border(r), border(r + 1) - border(r)));
    parts.emplace_back(backend.runtime(), Shape{rows, x.row_elements()}, x.dtype());
    messages.receive(r, parts.back());
  }
  messages.start(*group_);
  messages.wait();

  Tensor result(backend.runtime(), {rows, width}, x.dtype());
  for (std::size_t piece = 0; piece < columns.front().size(); ++piece) {
    for (std::size_t r = 0; r < parts.size();) {
      const ColumnSpan span = columns[r][piece];
      std::int64_t at = 0;
      for (std::size_t before = 0; before < piece; ++before) at += columns[r][before].width;
      std::size_t next = r + 1;
      while (next < parts.size() && columns[next][piece] == span) ++next;
      if (next == r + 1) {
        backend.copy({parts[r], at, span.width}, {result, span.first, span.width});
      } else {  // copies of one key head
        const Tensor sum(backend.runtime(), {rows, span.width}, x.dtype() == Dtype::f64 ? Dtype::f64 : Dtype::f32),
            rounded(backend.runtime(), sum.shape(), x.dtype());
        backend.fill(sum, 0.0);
        for (; r < next; ++r) {
          backend.copy({parts[r], at, span.width}, rounded);
          backend.add(rounded, sum);
        }
        backend.cast(sum, rounded);
        backend.copy(rounded, {result, span.first, span.width});
      }
      r = next;
    }
  }
  return result;
}

Var HeadExchange::to_heads(Tape& tape, const Var& qkv) const {
  Var all(exchange_for_heads(tape.backend(), qkv.value(), fused_));
  tape.record([exchange = *this, &backend = tape.backend(), shape = all.value().shape(), dtype = all.value().dtype(),
               from = all.slot(), to = qkv.slot()] {
    Tensor gradient = from.take();
    if (!gradient.defined()) {  // other ranks wait for this one's part
      gradient = Tensor(backend.runtime(), shape, dtype);
      backend.fill(gradient, 0.0);
    }
    to.accumulate(backend, exchange.exchange_for_rows(backend, gradient, exchange.fused_, exchange.fused_width_));
  });
  return all;
}

Var HeadExchange::to_rows(Tape& tape, const Var& output) const {
  Var own(exchange_for_rows(tape.backend(), output.value(), output_, output_width_));
  tape.record([exchange = *this, &backend = tape.backend(), shape = own.value().shape(), dtype = own.value().dtype(),
               from = own.slot(), to = output.slot()] {
    Tensor gradient = from.take();
    if (!gradient.defined()) {
      gradient = Tensor(backend.runtime(), shape, dtype);
      backend.fill(gradient, 0.0);
    }
    to.accumulate(backend, exchange.exchange_for_heads(backend, gradient, exchange.output_));
  });
  return own;
}

}  // namespace lexring
