#include "jobs/launch/nodes.h"

#include <cstdlib>
#include <span>

#include <sys/utsname.h>

namespace lexring {

std::string node_name() {
  utsname name{};
  uname(&name);
  return name.nodename;
}

std::string slurm_job() {
  const char* job = std::getenv("SLURM_JOB_ID");
  return job != nullptr ? job : "";
}

std::vector<std::string> gather_texts(Communicator& world, std::string_view own) {
  std::vector<std::string> texts;
  for (const auto& bytes : world.all_gather(std::as_bytes(std::span(own)))) {
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return texts;
}
std::vector<std::string> gather_nodes(Communicator& world) { return gather_texts(world, node_name()); }

}  // namespace lexring
