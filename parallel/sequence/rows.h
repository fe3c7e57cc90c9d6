/// Rows of a matrix gathered for a message, and put back.
#pragma once

#include "framework/backend/backend.h"
#include "parallel/sequence/row_set.h"

namespace lexring {

/// The columns of the rows, [count(rows), width]. Shares storage where nothing has to move: all columns of adjacent
/// rows.
Tensor pack_rows(Backend& backend, const Columns& from, const RowSet& rows);
/// into[rows] += from, [count(rows), width] and [.., width].
void add_rows(Backend& backend, const Tensor& from, const RowSet& rows, const Tensor& into);

}  // namespace lexring
