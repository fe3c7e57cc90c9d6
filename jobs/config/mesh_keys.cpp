#include "jobs/config/mesh_keys.h"

namespace lexring {

std::vector<Key> mesh_keys(MeshKeys& mesh) {
  return {Key{"mesh.dp", &mesh.dp, "data-parallel replicas", "ranks", "what is left"}.at_least(0),
          Key{"mesh.cp", &mesh.cp, "ranks that share a sequence", "ranks"}.at_least(1),
          Key{"mesh.tp", &mesh.tp, "ranks that share a layer's matrices", "ranks"}.at_least(1),
          Key{"mesh.ulysses", &mesh.ulysses,
              "cp = ring x ulysses: of the ranks that share a sequence, those that exchange heads for it", "ranks",
              "0: chosen from the shape"}
              .at_least(0),
          {"mesh.tp_across_nodes", &mesh.tp_across_nodes, "allow mesh.tp to leave a node", "true|false"}};
}

std::vector<Key> sequence_keys(SequenceKeys& sequence) {
  return {{"sequence.partition", &sequence.partition,
           "how a sequence is dealt to the ranks that share it; auto: zigzag if a layer is causal, else contiguous"},
          {"sequence.exchange", &sequence.exchange,
           "how keys and values reach other ranks; auto: halo where a pattern reaches no further than the rank before, "
           "else ring"}};
}

std::vector<Key> device_keys(DeviceKeys& keys) {
  const std::vector<std::string> on_gpu = {"auto", "cuda"};
  return {
      {"device", &keys.device, "what computes; auto takes a GPU where there is one"},
      {"cpu.isa", &keys.isa,
       "vector instructions of the CPU kernels and of oneDNN; auto: the highest level that all ranks have"},
      Key{"cuda.attention", &keys.attention,
          "whose kernels compute attention on a GPU; cudnn: cuDNN's where it has one for a call, else own; hopper: "
          "forward by a kernel for H100 and H200 that has never run on a device, where it computes a call, else own; "
          "auto: own, until a GPU has run all"}
          .only_with("device", on_gpu),
      Key{"cuda.check_launches", &keys.check_launches,
          "to find an error on a GPU: every kernel is waited for, and one that fails is named with its arguments; slow",
          "true|false"}
          .only_with("device", on_gpu)};
}

}  // namespace lexring
