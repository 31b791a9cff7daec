# Finds LibTorch and defines the target `torch_libraries`.
#
# `find_package(Torch)` fails with a CUDA wheel on a machine without the CUDA toolkit, so the
# libraries are named here. LIBTORCH (a CMake or environment variable) names a LibTorch folder; by
# default it is the one that pip put into .venv.
set(LIBTORCH "$ENV{LIBTORCH}" CACHE PATH "LibTorch folder, the one with include/ and lib/")
if(NOT LIBTORCH)
  file(GLOB candidates ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(GET candidates 0 LIBTORCH)
endif()
if(NOT EXISTS ${LIBTORCH}/include/ATen/ATen.h)
  message(FATAL_ERROR "No LibTorch at \"${LIBTORCH}\". Run ./run_tests, which installs it into "
                      ".venv, or set LIBTORCH to one ≥ 2.7.")
endif()
if(LIBTORCH MATCHES "^/usr(/include|/lib)?/?$")
  message(FATAL_ERROR "Debian's own libtorch cannot be used: its protobuf clashes with "
                      "sentencepiece's. Unset LIBTORCH.")
endif()

add_library(torch_libraries INTERFACE)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  # Clang's code calls LLVM's OpenMP runtime, which can also serve LibTorch, built for GCC's, if it
  # is found before that. The other way round each thread of a parallel region would take itself for
  # the only one.
  find_package(OpenMP REQUIRED)  # Debian's libomp-dev
  target_link_libraries(torch_libraries INTERFACE ${OpenMP_CXX_LIBRARIES})
endif()
target_include_directories(torch_libraries SYSTEM INTERFACE
  ${LIBTORCH}/include ${LIBTORCH}/include/torch/csrc/api/include)
# Headers of operations one by one: see core/model/torch.h.
target_compile_definitions(torch_libraries INTERFACE AT_PER_OPERATOR_HEADERS)
target_link_directories(torch_libraries INTERFACE ${LIBTORCH}/lib)
target_link_options(torch_libraries INTERFACE
  -Wl,-rpath,${LIBTORCH}/lib -Wl,-rpath-link,${LIBTORCH}/lib)
# libtorch_cpu.so exports a std::filesystem of its own, of the compiler that built it. Found before
# libstdc++ it would serve our calls, and fs::remove_all has crashed so (GCC 13, torch 2.11).
target_link_libraries(torch_libraries INTERFACE stdc++ torch torch_cpu c10)
if(EXISTS ${LIBTORCH}/lib/libtorch_cuda.so)
  # Nothing of ours names a symbol of these: the linker must be told to keep them.
  target_link_libraries(torch_libraries INTERFACE
    -Wl,--no-as-needed torch_cuda c10_cuda -Wl,--as-needed)
endif()
# LibTorch's own OpenMP runtime where it brings one: two in a process would fight for the cores.
file(GLOB GOMP ${LIBTORCH}/lib/libgomp*.so*)
target_link_libraries(torch_libraries INTERFACE ${GOMP})
if(NOT GOMP)
  target_link_options(torch_libraries INTERFACE -fopenmp)
endif()
message(STATUS "LibTorch: ${LIBTORCH}")
