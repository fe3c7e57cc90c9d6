#include "framework/base/log.h"

#include <memory>

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace lexring {

void start_log(int rank, int ranks) {
  // spdlog's registry already holds one default logger for the process; ours takes its place instead of adding a global of our own.
  const std::string name = ranks > 1 ? fmt::format("rank {}: ", rank) : std::string();
  auto logger = std::make_shared<spdlog::logger>(name, std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%H:%M:%S %^%l%$ %n%v");
  logger->set_level(rank == 0 ? spdlog::level::info : spdlog::level::warn);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

// The message is an argument, never the format: it may hold braces.
void log_info(std::string_view message) { spdlog::info("{}", message); }
void log_warning(std::string_view message) { spdlog::warn("{}", message); }

}  // namespace lexring
