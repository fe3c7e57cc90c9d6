/// Rows of a matrix gathered for a message or a call, and put back.
#pragma once

#include "framework/backend/backend.h"
#include "parallel/sequence/partition.h"

namespace lexring {

/// The columns of the rows, [count(rows), width]. Shares storage where nothing has to move: all columns of adjacent
/// rows.
Tensor pack_rows(Backend& backend, const Columns& from, const RowSet& rows);
/// into[rows] += from, [count(rows), width] and [.., width].
void add_rows(Backend& backend, const Tensor& from, const RowSet& rows, const Tensor& into);

// ---- rows of chunks, of tensors of all rows of the batch

/// [row_count(chunks), ...]
Tensor take_chunks(Backend& backend, const Tensor& whole, const std::vector<Chunk>& chunks);
/// The way back.
void put_chunks(Backend& backend, const Tensor& rows, const std::vector<Chunk>& chunks, const Tensor& whole);
/// whole[rows of the chunks] += rows
void add_chunks(Backend& backend, const Tensor& rows, const std::vector<Chunk>& chunks, const Tensor& whole);

}  // namespace lexring
