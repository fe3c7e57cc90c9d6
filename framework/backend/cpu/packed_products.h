/// Matrix products of our own, where oneDNN has none: of bf16 on processors without its dot product.
#pragma once

#include "framework/backend/cpu/matmul.h"

namespace lexring::cpu {

/// As MatrixProducts::product; a and b f32 or bf16 alike. bf16 operands are widened while they are packed, which is
/// exact; sums are f32, the result is rounded once. An element's sum has one order, wherever it stands and however many
/// threads there are: equal rows give equal bits. Working memory is at most about 16 MiB and some 300 KiB a thread,
/// whatever the sizes.
void packed_product(const Columns& a, Layout a_layout, const Columns& b, Layout b_layout, const Tensor& bias,
                    const Columns& c, bool accumulate);

}  // namespace lexring::cpu
