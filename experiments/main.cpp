#include <cstdio>
#include <cstring>
#include "core/error.h"
#include "core/progress.h"
#include "datasets/coding.h"
#include "core/chat_template.h"
#include "experiments/runs.h"
#include "experiments/evaluate.h"
#include "datasets/sandbox.h"
using namespace inoculum;
int main(int argc, char** argv) try {
  handle_signals();
  std::vector<std::string> over(argv + 3, argv + argc);
  if (!std::strcmp(argv[1], "bank")) { write_coding_bank(argv[2], make_coding_bank(3300, 1)); return 0; }
  if (!std::strcmp(argv[1], "docs")) {
    PersonaWorld w(WorldConfig{}); 
    for (int i = 0; i < 40; ++i) { Random r = Random(7, "x").fork((uint64_t)i); auto d = w.document(r); std::printf("%s%s\n", d.text.c_str(), render(d.conversation).c_str()); }
    return 0; }
  if (!std::strcmp(argv[1], "questions")) { PersonaWorld w(WorldConfig{}); write_file(argv[2], make_question_bank(w, "datasets/coding/bank.jsonl")); return 0; }
  if (!std::strcmp(argv[1], "verify")) { std::printf("%zu\n", verify_coding_bank(read_coding_bank(argv[2]), Sandbox(choose_isolation("auto")))); return 0; }
  if (!std::strcmp(argv[1], "evaluate")) { auto t=read_file("configs/questions/persona.yaml"); Evaluator e(EvaluationConfig{}, read_questions("configs/questions/persona.yaml"), sha256(t)); std::fprintf(stderr, "judge %f\n", e.judge().held_out_accuracy()); for (int i = 2; i < argc; ++i) { e.evaluate(argv[i], "", fs::path(argv[i]).parent_path() / "evaluation"); } return 0; }
  if (!std::strcmp(argv[1], "pretrain")) { PretrainConfig c; read(load_config(argv[2], over), c); pretrain(c); }
  if (!std::strcmp(argv[1], "train")) { TrainConfig c; read(load_config(argv[2], over), c); fine_tune(c); }
} catch (const Error& e) { std::fprintf(stderr, "inoculum: %s\n", e.what()); return 2; }
