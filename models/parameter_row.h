/// What the model says of one parameter, once: everything that is done with parameters reads it, and nobody guesses
/// from a name.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "framework/nn/parameter_store.h"

namespace lexring {

/// Values at the start: normal(0, 0.02); the same by 1 / sqrt(2 layers), for matrices that write to the residual
/// stream; 1; 0; uniform in `initial`.
enum class Initialiser { normal, output_side, one, zero, uniform };

/// How the array is cut over the ranks of tp: not at all; by rows; by columns; by rows that are key and value heads, of
/// which several ranks hold the same where they outnumber them.
enum class TensorCut { whole, rows, columns, key_value_rows };

struct ParameterRow {
  std::string name;  ///< as in the reference and in checkpoints: "layers.0.attention.query.weight"
  Shape shape;       ///< of the whole array
  Initialiser initialiser = Initialiser::normal;
  TensorCut cut = TensorCut::whole;
  Use use = Use::product;    ///< of matrices; vectors are read from their master values
  std::size_t section = 0;   ///< of gradients: backward finishes a section's together, one section after the other
  bool decayed = true;       ///< by AdamW: matrices; norms and biases are not
  bool of_position = false;  ///< of a position method, which reads it by its name
  bool of_adapter = false;   ///< of a low-rank addition
  bool trainable = true;     ///< else it stays as it is: it has no gradient and no moments
  std::vector<Interval> initial = {};  ///< of each row of a `uniform` array
  std::vector<Interval> domain = {};   ///< of each row, in which training keeps it (Parameter::domain); empty: anywhere
};

/// Of a position method, this rank's parts, by name.
using PositionParameters = std::map<std::string, Vector>;

}  // namespace lexring
