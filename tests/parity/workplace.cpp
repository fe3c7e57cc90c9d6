#include "tests/parity/workplace.h"

#include <fstream>
#include <random>
#include <span>

#include <fmt/format.h>

#include "datasets/prepare.h"
#include "framework/base/error.h"

namespace lexring::parity {
namespace {

void write_corpus(const std::filesystem::path& path) {
  std::mt19937 random(20);
  std::ofstream out(path);
  for (int n = 0; n < 1200; ++n) {
    const bool tiny = n / 150 % 2 == 1;
    const int length = tiny ? 1 : 1 << random() % 9;
    std::string text;
    for (int i = 0; i < length; ++i) text += "etaoin shrdlu.,"[random() % 15 * (random() % 15) / 15];
    out << "{\"text\": \"" << text << "\"}\n";
  }
  out.close();
  require(out.good(), "cannot write {}", path.string());
}

}  // namespace

Workplace::Workplace(std::shared_ptr<Communicator> world, const std::filesystem::path& parent)
    : world_(std::move(world)) {
  const std::string name = fmt::format("lexring_parity_{:08x}", std::random_device{}());
  const auto names = world_->all_gather(std::as_bytes(std::span(name)));
  directory_ = parent / std::string(reinterpret_cast<const char*>(names[0].data()), names[0].size());
  if (world_->rank() == 0) {
    std::filesystem::create_directories(directory_);
    write_corpus(directory_ / "text.jsonl");
    PrepareOptions options;
    options.inputs = {(directory_ / "text.jsonl").string()};
    options.output = directory_ / "data.h5";
    prepare(options);
  }
  world_->barrier();
  data_.emplace(Dataset::open(directory_ / "data.h5"));
}

Workplace::~Workplace() {
  std::error_code ignored;
  if (world_->rank() == 0) std::filesystem::remove_all(directory_, ignored);
}

}  // namespace lexring::parity
