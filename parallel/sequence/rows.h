/// Rows of a matrix gathered for a message, and put back. Host memory (device memory comes with its communicator).
#pragma once

#include "framework/backend/backend.h"
#include "parallel/sequence/row_set.h"

namespace lexring {

/// The columns of the rows, [count(rows), width]. Shares storage where nothing has to move: all columns of adjacent rows.
Tensor pack_rows(const Columns& from, const RowSet& rows);
/// Rows of `from` [N, width], all of them, into the columns of `to` [N, width]; same dtype.
void unpack(const Tensor& from, const Columns& to);
/// into[rows] += from, [count(rows), width] and [.., width].
void add_rows(Backend& backend, const Tensor& from, const RowSet& rows, const Tensor& into);

}  // namespace lexring
