// The tests of templates, as Jinja2's.
#include "core/text/jinja/operations.h"

namespace inoculum::jinja {
namespace {

Test simple_test(bool (*property)(const Value&)) {
  return [property](Operations&, const Value& v, const Args& args) {
    Operations::bind("the test", args, {});
    return property(v);
  };
}

int64_t remainder(const Value& v, const Value& by) {
  need_defined(v);
  if (!is_number(v)) throw Fault{"this test needs a number, not " + type_name(v)};
  const Value rest = Operations::arithmetic("%", v, by);
  return rest.kind == Kind::real ? (rest.real == 0 ? 0 : rest.real == 1 ? 1 : 2) : rest.integer;
}

Test comparison(const char* op) {
  return [op](Operations& ops, const Value& v, const Args& args) {
    return ops.compared(op, v, Operations::bind("the test", args, {"other"}, 1)[0]);
  };
}

}  // namespace

// A table: an entry for each test that may follow `is`.
const std::unordered_map<std::string, Test>& tests() {
  static const std::unordered_map<std::string, Test> table = {
      {"==", comparison("==")},
      {"eq", comparison("==")},
      {"equalto", comparison("==")},
      {"!=", comparison("!=")},
      {"ne", comparison("!=")},
      {"<", comparison("<")},
      {"lt", comparison("<")},
      {"lessthan", comparison("<")},
      {"<=", comparison("<=")},
      {"le", comparison("<=")},
      {">", comparison(">")},
      {"gt", comparison(">")},
      {"greaterthan", comparison(">")},
      {">=", comparison(">=")},
      {"ge", comparison(">=")},
      {"in", comparison("in")},
      {"boolean", simple_test([](const Value& v) { return v.kind == Kind::boolean; })},
      {"callable", simple_test([](const Value& v) {
         return v.kind == Kind::undefined || v.kind >= Kind::loop;
       })},
      {"defined", simple_test([](const Value& v) { return v.kind != Kind::undefined; })},
      {"undefined", simple_test([](const Value& v) { return v.kind == Kind::undefined; })},
      {"false", simple_test([](const Value& v) { return v.kind == Kind::boolean && !v.integer; })},
      {"true", simple_test([](const Value& v) { return v.kind == Kind::boolean && v.integer; })},
      {"float", simple_test([](const Value& v) { return v.kind == Kind::real; })},
      {"integer", simple_test([](const Value& v) { return v.kind == Kind::integer; })},
      {"iterable", simple_test([](const Value& v) {
         return is_text(v) || is_items(v) || v.kind == Kind::dict || v.kind == Kind::generator ||
                v.kind == Kind::undefined || v.kind == Kind::loop;
       })},
      {"mapping", simple_test([](const Value& v) { return v.kind == Kind::dict; })},
      {"none", simple_test([](const Value& v) { return v.kind == Kind::none; })},
      {"number", simple_test([](const Value& v) { return is_number(v); })},
      {"sequence", simple_test([](const Value& v) {
         return is_text(v) || v.kind == Kind::list || v.kind == Kind::tuple ||
                v.kind == Kind::range || v.kind == Kind::dict || v.kind == Kind::undefined;
       })},
      {"string", simple_test([](const Value& v) { return is_text(v); })},
      {"divisibleby",
       [](Operations&, const Value& v, const Args& args) {
         const Value by = Operations::bind("divisibleby", args, {"num"}, 1)[0];
         need_defined(by);
         if (!is_number(by)) throw Fault{"divisibleby needs a number"};
         return remainder(v, by) == 0;
       }},
      {"even",
       [](Operations&, const Value& v, const Args& args) {
         Operations::bind("even", args, {});
         return remainder(v, number(int64_t{2})) == 0;
       }},
      {"odd",
       [](Operations&, const Value& v, const Args& args) {
         Operations::bind("odd", args, {});
         return remainder(v, number(int64_t{2})) == 1;
       }},
      {"lower",
       [](Operations& ops, const Value& v, const Args& args) {
         Operations::bind("lower", args, {});
         return only_case(decode(ops.str(v)), lower);
       }},
      {"upper",
       [](Operations& ops, const Value& v, const Args& args) {
         Operations::bind("upper", args, {});
         return only_case(decode(ops.str(v)), upper);
       }},
      {"sameas", [](Operations&, const Value& v, const Args& args) {
         const Value other = Operations::bind("sameas", args, {"other"}, 1)[0];
         if (v.kind != other.kind) return false;
         if (v.kind != Kind::none && v.kind != Kind::boolean)
           throw Fault{"sameas knows true, false and none only"};
         return v.integer == other.integer;
       }}};
  return table;
}

}  // namespace inoculum::jinja
