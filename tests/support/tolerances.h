/// Every tolerance of the test suite, with its reason. Unless said, an error is ||ours - expected|| / ||expected|| of a
/// whole tensor, and as much for the largest single difference against the largest single value.
#pragma once

namespace lexring::tolerance {

// ---- f64
/// Analytic gradients against central differences with a step of 1e-5: truncation is about step^2 = 1e-10, cancellation
/// 1e-16 / 1e-5.
inline constexpr double central_difference = 1e-7;
/// The same sums in another order in f64.
inline constexpr double f64_reordered = 1e-12;

// ---- cpu backend against the reference in f64, both fed with the same rounded numbers
/// Elementwise f32 kernels and norms: a few roundings of 6e-8 each, polynomial exp and erf included.
inline constexpr double f32_elementwise = 2e-6;
/// Sums of up to a few hundred f32 products, in any order.
inline constexpr double f32_matmul = 3e-6;
/// f32 scores of size s carry an absolute error of about 1e-7 s (more under the decay factors of a diagonal tile),
/// which the exponential turns into a relative one of the weights.
inline constexpr double f32_attention = 5e-6;
/// Gradients of scores are p (dp - delta): where a query's weight sits on one key the two cancel, and what remains is
/// small against their rounding (f32 lse and delta alone cost 5e-6 there).
inline constexpr double f32_attention_backward = 2e-5;
/// A result rounded once to bf16: half a unit in the last place, 2^-8 = 3.9e-3 at most, per element.
inline constexpr double bf16_rounded = 4e-3;
/// bf16 operands rounded once more on the way (rotated and scaled queries and keys, weights): several times 2^-8,
/// partly averaged out.
inline constexpr double bf16_attention = 1.5e-2;
/// As before, through the product of two such rounded factors.
inline constexpr double bf16_attention_backward = 2.5e-2;

}  // namespace lexring::tolerance
