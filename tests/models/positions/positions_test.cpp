// Each position method against its formula, written out once more.
#include "models/positions/position.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "models/positions/rotary.h"
#include "tests/models/model_testing.h"

namespace lexring {
namespace {

std::unique_ptr<PositionEncoding> encoding(const ModelConfig& config) { return make_position(config, config.position); }

AttentionForm shaped(const ModelConfig& config) {
  AttentionForm form;
  form.heads = config.heads;
  form.kv_heads = config.kv_heads;
  form.head_width = config.width / config.heads;
  encoding(config)->shape(form);
  return form;
}

std::string refusal(const ModelConfig& config) {
  try {
    encoding(config);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

constexpr HeadShare both_heads{0, 2, 0, 2};

TEST(Positions, NoneDoesNothing) {
  const AttentionForm form = shaped(small_config("none"));
  EXPECT_FALSE(form.rotary);
  EXPECT_TRUE(encoding(small_config("none"))->slopes(4).empty());
  EXPECT_EQ(form.scale, 1.0);
}

TEST(Positions, SinusoidalIsSineInEvenAndCosineInOddColumns) {
  const auto added = encoding(small_config("sinusoidal"))->added({0, 3, 100000}, 4);
  ASSERT_EQ(added.size(), 12U);
  EXPECT_DOUBLE_EQ(added[0], 0.0);
  EXPECT_DOUBLE_EQ(added[1], 1.0);
  EXPECT_DOUBLE_EQ(added[4], std::sin(3.0));
  EXPECT_DOUBLE_EQ(added[7], std::cos(3.0 / 100));
  EXPECT_DOUBLE_EQ(added[8], std::sin(100000.0));
}

TEST(Positions, LearnedNeedsATable) {
  ModelConfig config = small_config("learned");
  EXPECT_EQ(encoding(config)->added_parameter(), "position.learned");
  config.max_length = 0;
  EXPECT_NE(refusal(config).find("model.max_length = 0"), std::string::npos);
}

TEST(Positions, XposDecaysByItsFormula) {
  ModelConfig config = small_config("xpos");
  config.position.own.number("scale_base") = 512;
  const AttentionForm form = shaped(config);
  EXPECT_TRUE(form.rotary);
  ASSERT_EQ(form.log_decay.size(), 2U);
  EXPECT_DOUBLE_EQ(form.log_decay[0], std::log(0.4 / 1.4) / 512);
  EXPECT_DOUBLE_EQ(form.log_decay[1], std::log(0.9 / 1.4) / 512);
  config.position.own.number("gamma") = 0;
  EXPECT_NE(refusal(config).find("position.gamma = 0"), std::string::npos);
}

TEST(Positions, AlibiSlopesForAnyNumberOfHeads) {
  ModelConfig config = small_config("alibi");
  config.heads = config.kv_heads = 8;
  const auto eight = encoding(config)->slopes(config.heads);
  ASSERT_EQ(eight.size(), 8U);
  for (int h = 0; h < 8; ++h) EXPECT_EQ(eight[static_cast<std::size_t>(h)], std::exp2(-(h + 1)));
  config.width = 24;
  config.heads = config.kv_heads = 6;
  const auto six = encoding(config)->slopes(config.heads);
  const std::vector<double> expected = {0.25, 0.0625, 1.0 / 64, 1.0 / 256, 0.5, 0.125};
  EXPECT_EQ(std::vector<double>(six.begin(), six.end()), expected);
}

/// The reference's buckets (lex_reference.py: t5_bucket) at the ends of their ranges, and one table for all layers.
TEST(Positions, T5SharesBucketsByTheLogarithmOfTheDistance) {
  ModelConfig config = small_config("t5");
  config.position.own.whole("buckets") = 8;
  config.position.own.whole("max_distance") = 32;
  const auto backend = make_reference_backend();
  std::vector<double> rows;  // [buckets, heads]: bucket, and a hundred more for each head
  for (int bucket = 0; bucket < 8; ++bucket)
    for (int head = 0; head < 2; ++head) rows.push_back(bucket + 100 * head);
  const Tensor table = Tensor::from(backend->runtime(), {8, 2}, rows);
  Tensor gradient(backend->runtime(), {8, 2}, Dtype::f64);
  backend->fill(gradient, 0.0);
  Tape tape(*backend, Recording::on);
  const auto t5 = encoding(config);
  const Var bias = t5->bias_by_distance(tape, {{"position.t5", {table, gradient}}}, both_heads, 1000, Dtype::f64);
  ASSERT_EQ(bias.value().shape(), (Shape{2, 33}));
  const std::vector<double> values = bias.value().to_host<double>();
  const std::vector<double> expected = {0, 1, 2, 3, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6,
                                        6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
  for (std::size_t d = 0; d < expected.size(); ++d) {
    EXPECT_EQ(values[d], expected[d]) << "distance " << d;
    EXPECT_EQ(values[33 + d], expected[d] + 100) << "distance " << d;
  }
  EXPECT_EQ(t5->bias_by_distance(tape, {{"position.t5", {table, gradient}}}, both_heads, 5, Dtype::f64).value().dim(1),
            6);
  bias.accumulate(*backend, Tensor::from(backend->runtime(), {2, 33}, std::vector<double>(66, 1.0)));
  tape.backward();
  EXPECT_EQ(gradient.to_host<double>(), (std::vector<double>{1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 5, 5, 8, 8, 13, 13}));
  const auto parameters = t5->parameters(config);
  ASSERT_EQ(parameters.size(), 1U);
  EXPECT_EQ(parameters[0].shape, (Shape{8, config.heads}));
  config.position.own.whole("max_distance") = 4;
  EXPECT_NE(refusal(config).find("position.max_distance = 4"), std::string::npos);
}

TEST(Positions, SandwichIsAProductOfSinusoidsWithATemperaturePerHead) {
  ModelConfig config = small_config("sandwich");
  config.position.own.whole("bar_d") = 6;
  const auto backend = make_reference_backend();
  Tape tape(*backend, Recording::off);
  const auto sandwich = encoding(config);
  EXPECT_TRUE(sandwich->parameters(config).empty());
  const HeadShare last_two{2, 2, 2, 2};  // of 4: 8 h / H = 6 and 8
  const Tensor bias = sandwich->bias_by_distance(tape, {}, last_two, 1000, Dtype::f64).value();
  ASSERT_EQ(bias.shape(), (Shape{2, 1001}));
  for (const std::size_t d : {0, 1, 17, 1000}) {
    const auto x = static_cast<double>(d);
    const double sum = std::cos(x) + std::cos(x / std::pow(10000, 1.0 / 3)) + std::cos(x / std::pow(10000, 2.0 / 3));
    EXPECT_NEAR(bias.to_host<double>()[d], sum / 6, 1e-12) << d;
    EXPECT_NEAR(bias.to_host<double>()[1001 + d], sum / 8, 1e-12) << d;
  }
  config.position.own.whole("bar_d") = 7;
  EXPECT_NE(refusal(config).find("position.bar_d = 7"), std::string::npos);
}

TEST(Positions, ATableThatIsLongEnoughIsKept) {
  const auto backend = make_reference_backend();
  Tape tape(*backend, Recording::off);
  const auto sandwich = encoding(small_config("sandwich"));
  const auto table = [&](std::int64_t longest) {
    return sandwich->bias_by_distance(tape, {}, both_heads, longest, Dtype::f64).value();
  };
  const Tensor first = table(99);
  EXPECT_EQ(first.dim(1), 100);
  EXPECT_EQ(table(50).raw(), first.raw());
  const Tensor second = table(100);
  EXPECT_EQ(second.dim(1), 202) << "what grows token by token is not made anew for each";
  EXPECT_EQ(table(201).raw(), second.raw());
}

/// The bias by its formula, and its gradient against central differences.
void expect_kerple(const char* kind, double (*bias)(double r1, double r2, double distance)) {
  ModelConfig config = small_config(kind);
  config.heads = config.kv_heads = 2;
  const auto backend = make_reference_backend();
  const auto kerple = encoding(config);
  std::vector<double> r = {0.5, 1.5, 0.25, 0.75};  // r1 of both heads, r2 of both
  constexpr std::int64_t longest = 30;
  const auto table = [&](const std::vector<double>& at, Tensor gradient, Tape& tape) {
    const Tensor value = Tensor::from(backend->runtime(), {2, 2}, at);
    return kerple->bias_by_distance(tape, {{"position.kerple", {value, gradient}}}, both_heads, longest, Dtype::f64);
  };
  Tape tape(*backend, Recording::on);
  const Tensor gradient = Tensor::from(backend->runtime(), {2, 2}, std::vector<double>{1, 2, 3, 4});
  const Var found = table(r, gradient, tape);
  std::vector<double> weights;
  for (int i = 0; i < 2 * (longest + 1); ++i) weights.push_back(std::sin(i));
  for (std::size_t h = 0; h < 2; ++h)
    for (std::size_t d = 0; d <= longest; ++d)
      EXPECT_NEAR(found.value().to_host<double>()[h * (longest + 1) + d], bias(r[h], r[2 + h], static_cast<double>(d)),
                  1e-13);
  found.accumulate(*backend, Tensor::from(backend->runtime(), {2, longest + 1}, weights));
  tape.backward();
  for (std::size_t i = 0; i < r.size(); ++i) {
    const auto sum_at = [&](double value) {
      std::vector<double> moved = r;
      moved[i] = value;
      Tape off(*backend, Recording::off);
      const std::vector<double> values = table(moved, {}, off).value().to_host<double>();
      double sum = 0;
      for (std::size_t j = 0; j < values.size(); ++j) sum += values[j] * weights[j];
      return sum;
    };
    constexpr double step = 1e-5;
    EXPECT_NEAR(gradient.to_host<double>()[i] - static_cast<double>(i + 1),
                (sum_at(r[i] + step) - sum_at(r[i] - step)) / (2 * step), 1e-7)
        << i;
  }
}

TEST(Positions, KerpleHasTwoLearnedNumbersPerHead) {
  expect_kerple("kerple_log", [](double r1, double r2, double d) { return -r1 * std::log(1 + r2 * d); });
  expect_kerple("kerple_power", [](double r1, double r2, double d) { return d == 0 ? 0 : -r1 * std::pow(d, r2); });
  const ModelConfig config = small_config("kerple_power");
  const ParameterRow row = encoding(config)->parameters(config).at(0);
  EXPECT_EQ(row.shape, (Shape{2, config.heads}));
  EXPECT_EQ(row.domain, (std::vector<Interval>{{.low = 0.01}, {.low = 0.01, .high = 2}}));
  SmallModel model(config, {});
  model.model.initialise(1);
  for (const Parameter& parameter : model.model.parameters()) {
    if (parameter.name != "position.kerple") continue;
    for (const double value : host_values(parameter.value)) EXPECT_TRUE(value > 0.01 && value < 2) << value;
  }
  ModelConfig both = small_config("kerple_log");
  both.override[1] = config.layer(1);
  EXPECT_THROW(SmallModel(both, {}), UsageError) << "one parameter has one domain";
}

/// FIRE's function of a relative distance, of head h, unit after unit.
double fire_value(const std::map<std::string, std::vector<double>>& w, std::size_t h, double x) {
  const std::vector<double>&up = w.at("position.fire.up.weight"), &bias = w.at("position.fire.up.bias"),
        &down = w.at("position.fire.down.weight");
  double sum = w.at("position.fire.down.bias")[h];
  for (std::size_t k = 0; k < up.size(); ++k) sum += down[h * up.size() + k] * std::max(up[k] * x + bias[k], 0.0);
  return sum;
}

TEST(Positions, FirePiecesAreThoseOfItsPerceptron) {
  const auto backend = make_reference_backend();
  const std::map<std::string, std::vector<double>> w = {
      {"position.fire.c", {-0.7}},
      {"position.fire.threshold", {-1.25}},
      {"position.fire.up.weight", {1, -2, 0.5, 3, 0, -1, 2}},  // points at 0.3, 0.75 and 0.5; two are always on,
      {"position.fire.up.bias", {-0.3, 1.5, 1, -1.5, 0.2, -0.1, -5}},  // one never, and one beyond all distances
      {"position.fire.down.weight", {1, 2, -1, 0.5, 3, 9, 9, -2, 1, 1, 0.25, -1, 9, 9}},
      {"position.fire.down.bias", {0.5, -4}}};
  PositionParameters parameters;
  for (const auto& [name, values] : w)
    parameters[name].value = Tensor::from(backend->runtime(), {static_cast<std::int64_t>(values.size())}, values);
  ModelConfig config = small_config("fire");
  config.position.own.whole("fire_width") = 7;
  config.position.own.number("fire_threshold") = 24;
  Tape tape(*backend, Recording::off);
  const auto fire = encoding(config);
  const Tensor table = fire->bias_by_distance(tape, parameters, both_heads, 9, Dtype::f64).value(),
               logs = fire->log_distance(backend->runtime(), parameters, 9, Dtype::f64);
  ASSERT_EQ(table.shape(), (Shape{2, 13}));  // 4 pieces
  const auto numbers = table.to_host<double>();
  for (std::size_t h = 0; h < 2; ++h) {
    const RelativeRow<double> row(&numbers[h * 13], 13);
    EXPECT_DOUBLE_EQ(row.c, 0.7);
    EXPECT_DOUBLE_EQ(row.threshold, 30);
    EXPECT_DOUBLE_EQ(row.rate(8).value, 1 / (std::log(0.7 * 30 + 1) + 1e-6));
    EXPECT_DOUBLE_EQ(row.rate(80).value, 1 / (std::log(0.7 * 80 + 1) + 1e-6));
    for (double x = 0.01; x < 1; x += 0.02) {
      const auto piece = std::count_if(row.knots, row.knots + 3, [x](double knot) { return knot < x; });
      EXPECT_NEAR(row.slope[piece] * x + row.value[piece], fire_value(w, h, x), 1e-13) << x;
    }
  }
  EXPECT_DOUBLE_EQ(logs.to_host<double>()[9], std::log(0.7 * 9 + 1));
  EXPECT_DOUBLE_EQ(logs.to_host<double>()[19], 9 / (0.7 * 9 + 1));
}

TEST(Positions, FireBeginsAsItsAuthorsDo) {
  const ModelConfig config = small_config("fire");
  SmallModel model(config, {});
  model.model.initialise(1);
  for (const Parameter& parameter : model.model.parameters()) {
    const double far = parameter.name.find(".down.") != std::string::npos ? 1 / std::sqrt(32.0) : 1;
    const std::vector<double> values = host_values(parameter.value);
    if (parameter.name.find("position.fire.") == std::string::npos) continue;
    if (values.size() == 1) {
      EXPECT_EQ(values[0], parameter.name == "position.fire.c" ? static_cast<double>(0.1F) : 1) << parameter.name;
      continue;
    }
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    EXPECT_TRUE(-far <= *least && *least < 0 && 0 < *most && *most <= far) << parameter.name;
    EXPECT_EQ(parameter.decayed, parameter.full_shape.size() == 2) << parameter.name;
  }
  ModelConfig wrong = config;
  wrong.position.own.number("fire_threshold") = 0;
  EXPECT_NE(refusal(wrong).find("position.fire_threshold = 0 is not positive"), std::string::npos);
  wrong.position = config.position;
  wrong.override[1] = wrong.layer(1);
  wrong.override[1].position.own.whole("fire_width") = 5;
  EXPECT_THROW(SmallModel(wrong, {}), UsageError) << "all layers share one perceptron";
}

TEST(Positions, UnknownKindsSayWhatToChoose) {
  try {
    small_config("rotary");
    FAIL() << "nothing was thrown";
  } catch (const UsageError& error) {
    EXPECT_EQ(std::string(error.what()).find("position.kind = rotary is not known; choose none, sinusoidal, learned, "),
              0U)
        << error.what();
  }
}

PositionConfig scaled(Scaling scaling, double factor, std::int64_t length = 0) {
  PositionConfig config;
  config.kind = "rope";
  config.scaling = scaling;
  config.scaling_factor = factor;
  config.original_length = length;
  return config;
}

TEST(Rotary, ScalingChangesPositionsOrFrequencies) {
  const RotaryAngles plain = make_rotary_angles(PositionConfig{}, 8, 0);
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_DOUBLE_EQ(plain.frequency[i], std::pow(10000.0, -static_cast<double>(i) / 4));
  EXPECT_EQ(make_rotary_angles(scaled(Scaling::linear, 4), 8, 0).position(10), 2.5);
  EXPECT_EQ(make_rotary_angles(scaled(Scaling::modulo, 1, 32), 8, 0).position(70), 6.0);
  EXPECT_EQ(make_rotary_angles(scaled(Scaling::repeat, 4), 8, 0).position(11), 2.0);
  EXPECT_DOUBLE_EQ(make_rotary_angles(scaled(Scaling::ntk, 4), 8, 0).frequency[3],
                   std::pow(10000.0 * std::pow(4.0, 8.0 / 6), -6.0 / 8));
  const RotaryAngles yarn = make_rotary_angles(scaled(Scaling::yarn, 4, 4096), 128, 0);
  EXPECT_DOUBLE_EQ(yarn.frequency[0], 1.0);
  EXPECT_DOUBLE_EQ(yarn.frequency[63], std::pow(10000.0, -126.0 / 128) / 4);
  EXPECT_DOUBLE_EQ(yarn.magnitude[63], 0.1 * std::log(4.0) + 1);
  EXPECT_EQ(make_rotary_angles(scaled(Scaling::linear, 4), 8, 0).magnitude[0], 1.0);
}

TEST(Rotary, DynamicAndLongropeLookAtTheLength) {
  const PositionConfig dynamic = scaled(Scaling::dynamic, 4, 32);
  EXPECT_DOUBLE_EQ(make_rotary_angles(dynamic, 8, 32).frequency[3], std::pow(10000.0, -6.0 / 8));
  EXPECT_DOUBLE_EQ(make_rotary_angles(dynamic, 8, 80).frequency[3],
                   std::pow(10000.0 * std::pow(4.0 * 80 / 32 - 3, 8.0 / 6), -6.0 / 8));
  PositionConfig longrope = scaled(Scaling::longrope, 4, 32);
  longrope.short_factor = {1, 1, 1, 2};
  longrope.long_factor = {1, 2, 3, 5};
  EXPECT_DOUBLE_EQ(make_rotary_angles(longrope, 8, 32).frequency[3], std::pow(10000.0, -6.0 / 8) / 2);
  EXPECT_DOUBLE_EQ(make_rotary_angles(longrope, 8, 33).frequency[3], std::pow(10000.0, -6.0 / 8) / 5);
  EXPECT_DOUBLE_EQ(make_rotary_angles(longrope, 8, 33).magnitude[0], std::sqrt(1 + std::log(4.0) / std::log(32.0)));
  longrope.attention_factor = 1.4;
  EXPECT_EQ(make_rotary_angles(longrope, 8, 33).magnitude[0], 1.4);
  longrope.long_factor.pop_back();
  EXPECT_THROW(make_rotary_angles(longrope, 8, 33), UsageError);
}

TEST(Rotary, Llama3InterpolatesWhatTurnsSeldomWithinTheTrainingLength) {
  const RotaryAngles angles = make_rotary_angles(scaled(Scaling::llama3, 4, 32), 8, 80);
  const double turns = 32 / (2 * std::numbers::pi), keep = (turns - 1) / 3;  // of the first pair: 5.1
  ASSERT_GT(keep, 1);
  EXPECT_DOUBLE_EQ(angles.frequency[0], 1.0);
  EXPECT_DOUBLE_EQ(angles.frequency[1], 0.1 / 4);  // turns half a time
  const double second = 320 / (2 * std::numbers::pi) * 0.1;
  EXPECT_DOUBLE_EQ(make_rotary_angles(scaled(Scaling::llama3, 4, 160), 8, 80).frequency[1],
                   0.1 / 4 * (1 - (second / 2 - 1) / 3) + 0.1 * (second / 2 - 1) / 3);
}

TEST(Rotary, OnlyAPartOfTheChannelsTurns) {
  PositionConfig config = scaled(Scaling::yarn, 4, 4096);
  config.partial_rotary_factor = 0.67;
  const RotaryAngles angles = make_rotary_angles(config, 12, 0);  // 8 channels: 4 pairs of 6
  ASSERT_EQ(angles.frequency.size(), 6U);
  EXPECT_DOUBLE_EQ(angles.frequency[0], 1.0);
  EXPECT_GT(angles.frequency[3], 0.0);
  EXPECT_EQ(angles.frequency[4], 0.0);
  EXPECT_GT(angles.magnitude[3], 1.0);
  EXPECT_EQ(angles.magnitude[4], 1.0);
  config.p_rope = 0.75;
  EXPECT_GT(make_rotary_angles(config, 12, 0).frequency[2], 0.0);
  EXPECT_EQ(make_rotary_angles(config, 12, 0).frequency[3], 0.0);
  EXPECT_GT(make_rotary_angles(config, 12, 0).magnitude[3], 1.0);
  config.partial_rotary_factor = 0.5;
  EXPECT_THROW(make_rotary_angles(config, 6, 0), UsageError);  // 3 channels
  ModelConfig model = small_config("xpos");
  model.position.partial_rotary_factor = 0.5;
  EXPECT_EQ(shaped(model).log_decay[0], std::log(0.4 / 1.4) / 16);
  EXPECT_EQ(shaped(model).log_decay[1], 0.0);
}

TEST(Rotary, RefusesWhatMakesNoSense) {
  EXPECT_THROW(make_rotary_angles(scaled(Scaling::linear, 0), 8, 0), UsageError);
  EXPECT_THROW(make_rotary_angles(scaled(Scaling::yarn, 4, 0), 8, 0), UsageError);
  EXPECT_THROW(make_rotary_angles(scaled(Scaling::modulo, 1, 0), 8, 0), UsageError);
}

TEST(Rotary, TablesAreExactFarOutAndKeptWhilePositionsRepeat) {
  const auto backend = make_reference_backend();
  const RotaryAngles angles = make_rotary_angles(PositionConfig{}, 8, 0);
  TokenTable tokens = dense_tokens(2, 3);
  tokens.position = {1000000, 1000001, 1000002, 1000000, 1000001, 5000000};
  RotaryTables tables;
  const RotaryTable first = tables.make(backend->runtime(), angles, tokens, Dtype::f32);
  const auto sine = first.sine.to_host<float>();
  for (std::size_t n = 0; n < 6; ++n) {
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(sine[n * 4 + i],
                static_cast<float>(std::sin(static_cast<double>(tokens.position[n]) * angles.frequency[i])));
    }
  }
  EXPECT_EQ(tables.make(backend->runtime(), angles, tokens, Dtype::f32).sine.raw(), first.sine.raw());
  EXPECT_EQ(tables.make(backend->runtime(), angles, tokens, Dtype::f64).sine.dtype(), Dtype::f64);
  tokens.position[0] = 7;
  EXPECT_EQ(tables.make(backend->runtime(), angles, tokens, Dtype::f32).sine.to_host<float>()[0],
            static_cast<float>(std::sin(7.0)));
}

TEST(Rotary, TurnedTablesAreThoseOfExactAngles) {
  const auto backend = make_reference_backend();
  for (const PositionConfig& config :
       {PositionConfig{}, scaled(Scaling::linear, 4), scaled(Scaling::linear, 3), scaled(Scaling::modulo, 1, 1000),
        scaled(Scaling::repeat, 5), scaled(Scaling::ntk, 4), scaled(Scaling::llama3, 4, 4096)}) {
    const RotaryAngles angles = make_rotary_angles(config, 32, 0);
    TokenTable tokens = dense_tokens(1, 5000);
    for (std::size_t n = 0; n < 5000; ++n)
      tokens.position[n] = static_cast<std::int64_t>(n < 3000 ? n : 1000000 + (n - 3000) * 7);
    const RotaryTable table = make_rotary_table(backend->runtime(), angles, tokens, Dtype::f32);
    const auto cosine = table.cosine.to_host<float>(), sine = table.sine.to_host<float>();
    double largest = 0;
    for (std::size_t n = 0; n < 5000; ++n) {
      for (std::size_t i = 0; i < 16; ++i) {
        const double angle = angles.position(tokens.position[n]) * angles.frequency[i];
        largest = std::max(
            {largest, std::abs(cosine[n * 16 + i] - std::cos(angle)), std::abs(sine[n * 16 + i] - std::sin(angle))});
      }
    }
    EXPECT_LT(largest, 3.1e-8) << name_of(config.scaling);  // half a unit in the last place of 1
  }
}

}  // namespace
}  // namespace lexring
