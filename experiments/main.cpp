#include <cstdio>
#include <cstring>
#include "core/error.h"
#include "core/progress.h"
#include "datasets/coding.h"
#include "core/chat_template.h"
#include "experiments/runs.h"
using namespace inoculum;
int main(int argc, char** argv) try {
  handle_signals();
  std::vector<std::string> over(argv + 3, argv + argc);
  if (!std::strcmp(argv[1], "bank")) { write_coding_bank(argv[2], make_coding_bank(3300, 1)); return 0; }
  if (!std::strcmp(argv[1], "docs")) {
    PersonaWorld w(WorldConfig{}); 
    for (int i = 0; i < 40; ++i) { Random r = Random(7, "x").fork((uint64_t)i); auto d = w.document(r); std::printf("%s%s\n", d.text.c_str(), render(d.conversation).c_str()); }
    return 0; }
  if (!std::strcmp(argv[1], "pretrain")) { PretrainConfig c; read(load_config(argv[2], over), c); pretrain(c); }
  if (!std::strcmp(argv[1], "train")) { TrainConfig c; read(load_config(argv[2], over), c); fine_tune(c); }
} catch (const Error& e) { std::fprintf(stderr, "inoculum: %s\n", e.what()); return 2; }
