# What the CUDA backend is made of, on a GPU (framework/CMakeLists.txt) and emulated (tests/framework/CMakeLists.txt).
set(cuda_kernels
  activation.cu
  adamw.cu
  attention.cu
  attention_flash_backward.cu
  attention_flash_backward_keys.cu
  attention_flash_backward_queries.cu
  attention_flash_forward.cu
  attention_bias.cu
  attention_plain_backward.cu
  attention_plain_forward.cu
  attention_rows.cu
  attention_score_sums.cu
  attention_state.cu
  columns.cu
  embedding.cu
  forget.cu
  fused_rows.cu
  landmarks.cu
  loss.cu
  norm.cu
  plain.cu
  reductions.cu
)
set(cuda_sources
  attention_tables.cpp
  backend.cpp
  fused_attention.cpp
  fused_plan.cpp
  hopper/tensor_map.cpp
  launch.cpp
)
# For sm_90a, and nothing else has their instructions.
set(hopper_kernels
  hopper/attention_forward.cu
)
foreach(list cuda_kernels cuda_sources hopper_kernels)
  list(TRANSFORM ${list} PREPEND ${PROJECT_SOURCE_DIR}/framework/backend/cuda/)
endforeach()
