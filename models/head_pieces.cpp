#include "models/head_pieces.h"

#include <algorithm>
#include <array>

namespace lexring {

namespace {

/// The same columns in the projections of all heads and in those of a piece: query, key, value.
struct SharedColumns {
  std::int64_t of_all, of_piece, width;
};

std::array<SharedColumns, 3> columns_of(const AttentionForm& form, const HeadShare& piece) {
  const std::int64_t e = form.head_width, query = form.query_width(), key = form.key_width();
  const std::int64_t own_query = piece.heads * e, own_key = piece.kv_heads * e;
  return {{{piece.first * e, 0, own_query},
           {query + piece.kv_first * e, own_query, own_key},
           {query + key + piece.kv_first * e, own_query + own_key, own_key}}};
}

}  // namespace

std::vector<HeadShare> head_pieces(const AttentionForm& form, std::int64_t border) {
  const std::int64_t group = form.group();
  std::vector<HeadShare> pieces;
  const auto add = [&](std::int64_t first, std::int64_t last) {
    if (first < last) pieces.push_back({first, last - first, first / group, (last - 1) / group + 1 - first / group});
  };
  const auto cut = [&](std::int64_t first, std::int64_t last) {  // where the ends cut groups, these apart
    const std::int64_t begin = std::min((first + group - 1) / group * group, last),
                       end = std::max(last / group * group, begin);
    add(first, begin);
    add(begin, end);
    add(end, last);
  };
  border = std::clamp<std::int64_t>(border, 0, form.heads);
  cut(0, border);
  cut(border, form.heads);
  return pieces;
}

Var take_heads(Tape& tape, const AttentionForm& form, const HeadShare& piece, const Var& qkv) {
  const Tensor& all = qkv.value();
  const std::int64_t width = (piece.heads + 2 * piece.kv_heads) * form.head_width;
  const std::array<SharedColumns, 3> shared = columns_of(form, piece);
  Var taken(Tensor(tape.runtime(), {all.dim(0), width}, all.dtype()));
  for (const SharedColumns& part : shared)
    tape.backend().copy({all, part.of_all, part.width}, {taken.value(), part.of_piece, part.width});
  tape.record([&backend = tape.backend(), shape = all.shape(), shared, slot = qkv.slot(), from = taken.slot()] {
    const Tensor dtaken = from.take();
    if (!dtaken.defined()) return;
    Tensor dqkv(backend.runtime(), shape, dtaken.dtype());
    backend.fill(dqkv, 0.0);
    for (const SharedColumns& part : shared)
      backend.copy({dtaken, part.of_piece, part.width}, {dqkv, part.of_all, part.width});
    slot.accumulate(backend, std::move(dqkv));
  });
  return taken;
}

Var join_heads(Tape& tape, const AttentionForm& form, const std::vector<HeadShare>& pieces,
               const std::vector<Var>& attended) {
  const Tensor& any = attended.front().value();
  Var joined(Tensor(tape.runtime(), {any.dim(0), form.query_width()}, any.dtype()));
  std::vector<GradientSlot> slots;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const Tensor& own = attended[i].value();
    tape.backend().copy({own, 0, own.dim(1)}, {joined.value(), pieces[i].first * form.head_width, own.dim(1)});
    slots.push_back(attended[i].slot());
  }
  tape.record([&backend = tape.backend(), width = form.head_width, pieces, slots, from = joined.slot()] {
    const Tensor djoined = from.take();
    if (!djoined.defined()) return;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const std::int64_t own = pieces[i].heads * width;
      Tensor dattended(backend.runtime(), {djoined.dim(0), own}, djoined.dtype());
      backend.copy({djoined, pieces[i].first * width, own}, {dattended, 0, own});
      slots[i].accumulate(backend, std::move(dattended));
    }
  });
  return joined;
}

}  // namespace lexring
