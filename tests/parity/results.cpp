#include "tests/parity/results.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <span>
#include <sstream>

#include <fmt/format.h>

#include "framework/base/error.h"

namespace lexring::parity {
namespace {

/// Of the cases of one row.
struct Summary {
  int cases = 0, passed = 0;
  Errors worst;

  void add(const Result& result) {
    ++cases;
    passed += result.failure.empty() ? 1 : 0;
    const auto keep = [](double& mine, double other) { mine = std::isnan(mine) || other <= mine ? mine : other; };
    keep(worst.loss, result.errors.loss);
    keep(worst.gradient_norm, result.errors.gradient_norm);
    keep(worst.gradient, result.errors.gradient);
    keep(worst.parameter, result.errors.parameter);
  }
};

using Row = std::function<std::string(const Case&)>;

void write_rows(std::ostream& out, const char* head, const std::vector<Case>& cases, const std::vector<Result>& results,
                const Row& row) {
  std::vector<std::pair<std::string, Summary>> rows;
  for (const Result& result : results) {
    const std::string name = row(cases[result.index]);
    auto found = std::find_if(rows.begin(), rows.end(), [&](const auto& entry) { return entry.first == name; });
    if (found == rows.end()) found = rows.insert(rows.end(), {name, {}});
    found->second.add(result);
  }
  out << fmt::format(
      "| {} | cases | passed | loss | gradient norm | gradients of step 1 | parameters after {} steps |\n", head,
      steps);
  out << "|" << std::string(static_cast<std::size_t>(std::count(head, head + std::string(head).size(), '|')), '|')
      << "---|---|---|---|---|---|---|\n";
  for (const auto& [name, sum] : rows) {
    out << fmt::format("| {} | {} | {} | {:.1e} | {:.1e} | {:.1e} | {:.1e} |\n", name, sum.cases, sum.passed,
                       sum.worst.loss, sum.worst.gradient_norm, sum.worst.gradient, sum.worst.parameter);
  }
  out << "\n";
}

}  // namespace

std::string describe(const Case& which, const Result& result) {
  const Errors& e = result.errors;
  const std::string numbers = fmt::format("loss {:.1e} norm {:.1e} gradient {:.1e} parameter {:.1e}", e.loss,
                                          e.gradient_norm, e.gradient, e.parameter);
  return fmt::format("{:<4} {:<100} {}{}\n", result.failure.empty() ? "ok" : "FAIL", which.describe(), numbers,
                     result.failure.empty() ? "" : "\n     " + result.failure);
}

std::vector<Result> read_passed(const std::filesystem::path& path, const std::vector<Case>& cases) {
  std::map<std::string, std::size_t> index;
  for (const Case& which : cases) index.emplace(which.describe(), index.size());
  std::ifstream lines(path);
  require_usage(lines.good(), "--passed {} cannot be read", path.string());
  std::vector<Result> results;
  for (std::string line; std::getline(lines, line);) {
    std::smatch parts;
    static const std::regex form(R"(ok +(.*?) +loss (\S+) norm (\S+) gradient (\S+) parameter (\S+))");
    if (!std::regex_match(line, parts, form)) continue;
    const auto found = index.find(parts[1]);
    if (found == index.end()) continue;
    Result result;
    result.index = found->second;
    result.errors = {std::stod(parts[2]), std::stod(parts[3]), std::stod(parts[4]), std::stod(parts[5]), "", ""};
    results.push_back(result);
    index.erase(found);
  }
  return results;
}

std::vector<Result> gather(const std::vector<Result>& mine, Communicator& world) {
  std::string text;
  for (const Result& result : mine) {
    std::string failure = result.failure;
    std::replace(failure.begin(), failure.end(), '\n', ' ');
    const Errors& e = result.errors;
    text += fmt::format("{} {} {} {} {} {}\n", result.index, e.loss, e.gradient_norm, e.gradient, e.parameter, failure);
  }
  std::vector<Result> all;
  for (const std::vector<std::byte>& bytes : world.all_gather(std::as_bytes(std::span(text)))) {
    std::istringstream lines(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      Result result;
      std::string numbers[4];  // a stream does not read "nan"
      words >> result.index >> numbers[0] >> numbers[1] >> numbers[2] >> numbers[3];
      result.errors.loss = std::stod(numbers[0]);
      result.errors.gradient_norm = std::stod(numbers[1]);
      result.errors.gradient = std::stod(numbers[2]);
      result.errors.parameter = std::stod(numbers[3]);
      words.ignore(1);
      std::getline(words, result.failure);
      all.push_back(result);
    }
  }
  std::sort(all.begin(), all.end(), [](const Result& a, const Result& b) { return a.index < b.index; });
  return all;
}

void write_table(const std::filesystem::path& path, const std::vector<Case>& cases,
                 const std::vector<Result>& results) {
  std::ofstream out(path);
  write_rows(out, "dp x cp x tp", cases, results, [](const Case& c) {
    return fmt::format("{} x {} x {}", c.mesh.size(Axis::dp), c.mesh.size(Axis::cp), c.mesh.size(Axis::tp));
  });
  write_rows(out, "sequence", cases, results, [](const Case& c) {
    return c.partition == "-" ? fmt::format("not shared, {}", c.pattern)
                              : fmt::format("{}, {}, {}", c.partition, c.pattern, c.exchange());
  });
  write_rows(out, "documents, optimizer, model", cases, results, [](const Case& c) {
    return fmt::format("{}, shard {}, {}", c.documents ? "packed" : "whole windows", c.shard, c.model);
  });
  out.close();
  require(out.good(), "cannot write {}", path.string());
}

}  // namespace lexring::parity
