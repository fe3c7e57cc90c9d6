/// A learned row per position, added to the token embedding (GPT-2; Radford et al. 2019): x += table[n]. There is
/// nothing beyond the table.
#include "models/positions/position.h"

namespace lexring {

namespace {

class Learned : public PositionEncoding {
 public:
  std::string added_parameter() const override { return name; }
  std::vector<ParameterRow> parameters(const ModelConfig& model) const override {
    ParameterRow table{name, {model.max_length, model.width}};
    table.use = Use::lookup;
    return {table};
  }

 private:
  static constexpr const char* name = "position.learned";
};

std::unique_ptr<PositionEncoding> make(const ModelConfig& model, const PositionConfig&) {
  require_usage(
      model.max_length > 0,
      "model.max_length = {} gives learned positions no table; set it to the longest length this model will ever see",
      model.max_length);
  return std::make_unique<Learned>();
}

}  // namespace

constinit const PositionMethod position_methods::learned = {
    .name = "learned",
    .make = make,
    .formula = "x_n += table[n]; nothing beyond the table",
    .source = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners",
    .bounded = true,
};

}  // namespace lexring
