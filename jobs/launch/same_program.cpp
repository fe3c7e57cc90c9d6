#include "jobs/launch/same_program.h"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "framework/base/console.h"
#include "framework/base/error.h"
#include "jobs/launch/nodes.h"
#include "parallel/checkpoint/files.h"

namespace lexring {
namespace {

using Builds = std::map<std::string, std::string>;

constexpr double clock_tolerance = 10;  // seconds

/// The build id among the notes of one segment; empty: there is none.
std::string build_id_in(const char* notes, std::size_t bytes) {
  const auto padded = [](std::size_t size) { return (size + 3) / 4 * 4; };
  for (std::size_t at = 0; at + sizeof(ElfW(Nhdr)) <= bytes;) {
    ElfW(Nhdr) header;
    std::memcpy(&header, notes + at, sizeof(header));
    const char* const name = notes + at + sizeof(header);
    const char* const id = name + padded(header.n_namesz);
    at += sizeof(header) + padded(header.n_namesz) + padded(header.n_descsz);
    if (at > bytes) break;
    if (header.n_type != NT_GNU_BUILD_ID || std::string_view(name, header.n_namesz) != std::string_view("GNU", 4))
      continue;
    return fmt::format("{:02x}", fmt::join(std::span(reinterpret_cast<const unsigned char*>(id), header.n_descsz), ""));
  }
  return "";
}

int add_build(dl_phdr_info* object, std::size_t /*size*/, void* builds) {
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto id = build_id_in(reinterpret_cast<const char*>(object->dlpi_addr + segment.p_vaddr), segment.p_memsz);
    if (!id.empty()) (*static_cast<Builds*>(builds))[std::filesystem::path(object->dlpi_name).filename().string()] = id;
  }
  return 0;
}

void say_other_libraries(const std::vector<std::string>& texts, const std::vector<std::string>& nodes) {
  std::set<std::string> said;
  const Builds first = nlohmann::json::parse(texts[0]).get<Builds>();
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    const std::string library = other_library(first, nlohmann::json::parse(texts[rank]).get<Builds>());
    if (library.empty() || !said.insert(nodes[rank] + library).second) continue;
    say("{} is another build on {} (rank {}) than on {}: ranks may round differently\n", library, nodes[rank], rank,
        nodes[0]);
  }
}

void say_other_clocks(Communicator& world, const std::vector<std::string>& nodes) {
  world.barrier();
  std::vector<double> clocks;
  const double own = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(&own, 1))))
    std::memcpy(&clocks.emplace_back(), bytes.data(), sizeof(double));
  if (world.rank() != 0) return;
  std::set<std::string> said;
  for (std::size_t rank = 1; rank < clocks.size(); ++rank) {
    const double ahead = clocks[rank] - clocks[0];
    if (std::abs(ahead) > clock_tolerance && said.insert(nodes[rank]).second)
      say("the clock of {} is {:.0f} s {} that of {}: times of files and logs will not fit together\n", nodes[rank],
          std::abs(ahead), ahead > 0 ? "ahead of" : "behind", nodes[0]);
  }
}

}  // namespace

Builds loaded_builds() {
  Builds builds;
  dl_iterate_phdr(add_build, &builds);
  return builds;
}

std::string other_library(const Builds& builds, const Builds& others) {
  for (const auto& [name, id] : builds) {
    const auto theirs = others.find(name);
    if (theirs != others.end() && theirs->second != id) return name;
  }
  return "";
}

void require_same_program(Communicator& world) {
  if (world.size() == 1) return;
  Builds builds = loaded_builds();
  const std::string program = builds[""], own = nlohmann::json(builds).dump();
  const std::vector<std::string> nodes = gather_nodes(world);
  const std::vector<std::string> hashes = gather_texts(world, program + hash_text(own));
  // Texts of a thousand ranks are gathered only where something differs.
  if (std::any_of(hashes.begin(), hashes.end(), [&](const std::string& hash) { return hash != hashes[0]; })) {
    const std::vector<std::string> programs = gather_texts(world, program);
    for (std::size_t rank = 1; rank < programs.size(); ++rank)
      require_usage(programs[rank] == programs[0],
                    "rank {} on {} runs another build of lexring than rank 0 on {}; install the same one on all nodes",
                    rank, nodes[rank], nodes[0]);
    const std::vector<std::string> texts = gather_texts(world, own);
    if (world.rank() == 0) say_other_libraries(texts, nodes);
  }
  say_other_clocks(world, nodes);
}

}  // namespace lexring
