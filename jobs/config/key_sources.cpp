#include "jobs/config/key_sources.h"

#include "framework/base/error.h"

namespace lexring {

void KeySources::add(const std::set<std::string>& given, const Origin& origin) {
  for (const std::string& name : given) {
    idle_.erase(name);
    const Key* key = table_.find(name);
    if (key != nullptr && !table_.has_effect(*key)) idle_[name] = origin(name);
  }
  given_.insert(given.begin(), given.end());
}

void KeySources::refuse_without_effect() const {
  for (const auto& [name, origin] : idle_) {
    const std::string why = table_.why_without_effect(*table_.find(name));
    require_usage(why.empty(), "{}{}", origin, why);
  }
}

}  // namespace lexring
