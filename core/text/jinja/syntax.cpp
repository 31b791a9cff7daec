#include "core/text/jinja/syntax.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/text/jinja/lexer.h"

namespace inoculum::jinja {
namespace {

// Names that scopes hide, see Program.
using Names = std::set<std::string>;

void add_names(const Node& expression, Names& names) {
  if (expression.op == Op::name) names.insert(expression.text);
  for (const NodePtr& kid : expression.kids)
    if (kid) add_names(*kid, names);
  for (const auto& [name, kid] : expression.named)
    if (kid) add_names(*kid, names);
}

// What a body reads and sets itself (`names`), and what it sets unread (`unread`).
void add_own_names(const Body& body, Names& names, Names& unread) {
  const auto set = [&](const Node& target, const auto& self) -> void {
    if (target.op == Op::name && names.insert(target.text).second) unread.insert(target.text);
    if (target.op == Op::tuple)
      for (const NodePtr& kid : target.kids) self(*kid, self);
    if (target.op == Op::member) add_names(target, names);
  };
  for (const NodePtr& n : body) {
    if (n->op == Op::output || n->op == Op::filter_block) add_names(*n->kids[0], names);
    if (n->op == Op::loop) add_names(*n->kids[1], names);
    if (n->op == Op::set) add_names(*n->kids[1], names);
    if (n->op == Op::set || n->op == Op::set_block) set(*n->kids[0], set);
    if (n->op == Op::macro && names.insert(n->text).second) unread.insert(n->text);
    if (n->op == Op::with)
      for (size_t i = 1; i < n->kids.size(); i += 2) add_names(*n->kids[i], names);
    if (n->op == Op::branch) {
      for (const NodePtr& test : n->kids) add_names(*test, names);
      Names maybe;  // set in some branches only, so looked up in the context
      for (const Body& inner : n->bodies) add_own_names(inner, names, maybe);
    }
  }
}

void hide_inside(const Body& body, const Names& outer);

std::vector<std::string> hide_names(const Body& body, Names outer) {
  Names names = std::move(outer), unread;
  add_own_names(body, names, unread);
  hide_inside(body, names);
  return {unread.begin(), unread.end()};
}

void hide_inside(const Body& body, const Names& outer) {
  for (const NodePtr& n : body) {
    Names own = outer;
    if (n->op == Op::branch) {
      for (const Body& inner : n->bodies) hide_inside(inner, outer);
      continue;
    }
    if (n->op == Op::loop) own.insert("loop");
    if (n->op == Op::loop) add_names(*n->kids[0], own);
    if (n->op == Op::macro)
      for (const auto& [name, value] : n->named) own.insert(name);
    if (n->op == Op::with)
      for (size_t i = 0; i < n->kids.size(); i += 2) add_names(*n->kids[i], own);
    for (size_t i = 0; i < n->bodies.size(); ++i) {
      const std::vector<std::string> hidden = hide_names(n->bodies[i], i == 0 ? own : outer);
      if (i == 0) n->hidden = hidden;
    }
  }
}

class Parser {
 public:
  Parser(const std::string& source, const std::string& name)
      : name_(name), tokens_(tokens_of(source, name)) {}

  Body run() {
    Body body = statements({});
    if (now().type != Tok::end) fail("unexpected {% " + now().text + " %}");
    return body;
  }
  bool marks_generation() const { return marks_generation_; }
  std::set<std::string> words() const {
    std::set<std::string> words;
    for (const Token& token : tokens_)
      if (token.type == Tok::name || token.type == Tok::string) words.insert(token.text);
    return words;
  }

 private:
  // Counts how deep the parser stands.
  struct Level {
    explicit Level(Parser& parser) : p(parser) {
      if (++p.level_ > 2 * kMaxNodeDepth) p.fail("the template is nested too deeply");
    }
    ~Level() { --p.level_; }
    Parser& p;
  };

  [[noreturn]] void fail(const std::string& what, const std::string& hint = "") const {
    throw Error(what, {.file = name_, .line = now().line}, hint);
  }
  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() {
    Token token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is(Tok type) const { return now().type == type; }
  bool is_op(const char* text) const { return is(Tok::op) && now().text == text; }
  bool is_word(const char* text) const { return is(Tok::name) && now().text == text; }
  bool skip_op(const char* text) { return is_op(text) && (next(), true); }
  bool skip_word(const char* text) { return is_word(text) && (next(), true); }
  Token expect(Tok type, const char* what) {
    if (!is(type)) fail(std::string("expected ") + what + ", found " + now().text);
    return next();
  }
  void expect_op(const char* text) {
    if (!skip_op(text)) fail(std::string("expected ") + text + ", found " + now().text);
  }

  NodePtr node(Op op, int line, std::string text = "") const {
    return std::make_unique<Node>(Node{.op = op, .line = line, .text = std::move(text)});
  }
  NodePtr measured(NodePtr n) const {
    const auto count = [&](const NodePtr& kid) {
      if (kid) n->depth = std::max(n->depth, kid->depth + 1);
    };
    for (const NodePtr& kid : n->kids) count(kid);
    for (const auto& [name, kid] : n->named) count(kid);
    for (const Body& body : n->bodies)
      for (const NodePtr& kid : body) count(kid);
    if (n->depth > kMaxNodeDepth) fail("the template is nested too deeply");
    return n;
  }
  template <class... Kids>
  NodePtr node(Op op, int line, std::string text, NodePtr first, Kids... more) const {
    NodePtr n = node(op, line, std::move(text));
    n->kids.push_back(std::move(first));
    (n->kids.push_back(std::move(more)), ...);
    return measured(std::move(n));
  }

  // Statements

  Body statements(std::initializer_list<const char*> ends) {
    const Level level(*this);
    Body body;
    while (!is(Tok::end)) {
      if (is(Tok::data)) {
        const Token token = next();
        body.push_back(node(Op::data, token.line, token.text));
      } else if (is(Tok::variable_begin)) {
        const int line = next().line;
        body.push_back(node(Op::output, line, "", tuple()));
        expect(Tok::variable_end, "}}");
      } else {
        expect(Tok::block_begin, "{%");
        if (std::any_of(ends.begin(), ends.end(), [&](const char* word) { return is_word(word); }))
          return body;
        body.push_back(statement());
        expect(Tok::block_end, "%}");
      }
    }
    if (ends.size() > 0)
      fail(std::string("the template ends before {% ") + *(ends.end() - 1) + " %}");
    return body;
  }

  // The statements up to one of `ends`, which is left as the current token.
  Body body_until(std::initializer_list<const char*> ends) {
    skip_op(":");
    expect(Tok::block_end, "%}");
    return statements(ends);
  }
  Body body_to(const char* end) {
    Body body = body_until({end});
    next();
    return body;
  }
  // The body of something with a scope of its own; `loops`: break and continue still reach the loop
  // around it.
  Body inner_body(const char* end, bool loops) {
    const int outer = loops_;
    ++scopes_;
    if (!loops) loops_ = 0;
    Body body = body_to(end);
    loops_ = outer;
    --scopes_;
    return body;
  }

  NodePtr statement() {
    const Token tag = expect(Tok::name, "the name of a statement");
    if (tag.text == "if") return branch(tag.line);
    if (tag.text == "for") return loop(tag.line);
    if (tag.text == "set") return assignment(tag.line);
    if (tag.text == "macro") return macro(tag.line);
    if (tag.text == "with") return with(tag.line);
    if (tag.text == "break" || tag.text == "continue") {
      if (loops_ == 0) fail("{% " + tag.text + " %} stands outside a loop");
      return node(tag.text == "break" ? Op::leave : Op::proceed, tag.line);
    }
    if (tag.text == "filter") {
      NodePtr n = node(Op::filter_block, tag.line, "", filters(nullptr, true));
      n->bodies.push_back(inner_body("endfilter", true));
      return measured(std::move(n));
    }
    if (tag.text == "generation") {
      marks_generation_ = true;
      NodePtr n = node(Op::generation, tag.line);
      n->bodies.push_back(inner_body("endgeneration", false));
      return measured(std::move(n));
    }
    static const std::vector<std::string> known = {
        "if",    "elif",     "else", "endif", "for",      "endfor", "set",        "endset",
        "macro", "endmacro", "with", "break", "continue", "filter", "generation", "raw"};
    const bool misplaced = std::find(known.begin(), known.end(), tag.text) != known.end();
    fail("{% " + tag.text +
             (misplaced ? " %} does not belong here" : " %} is not supported in chat templates"),
         misplaced ? "" : did_you_mean(tag.text, known));
  }

  NodePtr branch(int line) {
    NodePtr n = node(Op::branch, line);
    while (true) {
      n->kids.push_back(tuple(false));
      n->bodies.push_back(body_until({"elif", "else", "endif"}));
      const Token token = next();
      if (token.text == "elif") continue;
      if (token.text == "else") n->bodies.push_back(body_to("endif"));
      return measured(std::move(n));
    }
  }

  NodePtr loop(int line) {
    ++loops_;
    NodePtr targets = target(false, "in");
    --loops_;
    if (!skip_word("in")) fail("expected in, found " + now().text);
    NodePtr items = tuple(false, "recursive"), test;
    if (skip_word("if")) test = expression();
    if (is_word("recursive")) fail("recursive loops are not supported");
    NodePtr n = node(Op::loop, line, "", std::move(targets), std::move(items), std::move(test));
    ++scopes_;
    ++loops_;
    n->bodies.push_back(body_until({"else", "endfor"}));
    --loops_;
    if (next().text == "else") n->bodies.push_back(body_to("endfor"));
    --scopes_;
    return measured(std::move(n));
  }

  NodePtr assignment(int line) {
    NodePtr targets = target(true, nullptr);
    if (skip_op("=")) {
      NodePtr value = tuple();
      return node(Op::set, line, "", std::move(targets), std::move(value));
    }
    NodePtr filter = filters(nullptr, false);
    NodePtr n = node(Op::set_block, line, "", std::move(targets), std::move(filter));
    n->bodies.push_back(inner_body("endset", true));
    return measured(std::move(n));
  }

  NodePtr macro(int line) {
    if (scopes_ > 0)
      fail("a macro inside a loop, a macro or a block is not supported",
           "define it at the top of the template");
    NodePtr n = node(Op::macro, line, expect(Tok::name, "the macro's name").text);
    expect_op("(");
    while (!is_op(")")) {
      if (!n->named.empty()) expect_op(",");
      const std::string parameter = expect(Tok::name, "a parameter").text;
      NodePtr value = skip_op("=") ? expression() : nullptr;
      if (!value && !n->named.empty() && n->named.back().second)
        fail("a parameter without a default follows one with a default");
      if (parameter == "caller") fail("the parameter caller is not supported");
      n->named.emplace_back(parameter, std::move(value));
    }
    next();
    parameters_ = &n->named;
    n->bodies.push_back(inner_body("endmacro", false));
    parameters_ = nullptr;
    return measured(std::move(n));
  }

  NodePtr with(int line) {
    NodePtr n = node(Op::with, line);
    while (!is(Tok::block_end)) {
      if (!n->kids.empty()) expect_op(",");
      n->kids.push_back(target(false, nullptr));
      expect_op("=");
      n->kids.push_back(expression());
    }
    n->bodies.push_back(inner_body("endwith", true));
    return measured(std::move(n));
  }

  NodePtr target(bool members, const char* end) {
    NodePtr n = tuple(true, end, false, true, members);
    check_target(*n);
    return n;
  }
  void check_target(const Node& n) const {
    if (n.op == Op::tuple) {
      for (const NodePtr& kid : n.kids) check_target(*kid);
    } else if (n.op != Op::name && n.op != Op::member) {
      fail("this cannot be assigned to");
    } else if (n.op == Op::name && n.text == "loop" && loops_ > 0) {
      fail("loop cannot be assigned to inside a loop");
    }
  }

  // Expressions, from the loosest to the tightest

  NodePtr tuple(bool conditions = true, const char* end = nullptr, bool parenthesised = false,
                bool simple = false, bool members = false) {
    const int line = now().line;
    Body parts;
    bool comma = false;
    while (true) {
      if (!parts.empty()) expect_op(",");
      if (is(Tok::variable_end) || is(Tok::block_end) || is_op(")") || (end && is_word(end))) break;
      parts.push_back(simple ? primary(members) : expression(conditions));
      if (!is_op(",")) break;
      comma = true;
    }
    if (!comma && !parts.empty()) return std::move(parts[0]);
    if (!comma && !parenthesised) fail("expected an expression, found " + now().text);
    NodePtr n = node(Op::tuple, line);
    n->kids = std::move(parts);
    return measured(std::move(n));
  }

  NodePtr expression(bool conditions = true) {
    const Level level(*this);
    NodePtr value = either();
    while (conditions && is_word("if")) {
      const int line = next().line;
      NodePtr test = either();
      NodePtr otherwise = skip_word("else") ? expression() : nullptr;
      value =
          node(Op::condition, line, "", std::move(test), std::move(value), std::move(otherwise));
    }
    return value;
  }
  NodePtr either() {
    NodePtr left = both();
    while (is_word("or")) {
      const int line = next().line;
      NodePtr right = both();
      left = node(Op::either, line, "", std::move(left), std::move(right));
    }
    return left;
  }
  NodePtr both() {
    NodePtr left = inversion();
    while (is_word("and")) {
      const int line = next().line;
      NodePtr right = inversion();
      left = node(Op::both, line, "", std::move(left), std::move(right));
    }
    return left;
  }
  NodePtr inversion() {
    const Level level(*this);
    if (!is_word("not")) return comparison();
    const int line = next().line;
    return node(Op::invert, line, "", inversion());
  }
  NodePtr comparison() {
    NodePtr n = node(Op::compare, now().line, "", sum());
    while (true) {
      std::string op;
      if (is(Tok::op) && (now().text == "==" || now().text == "!=" || now().text == "<" ||
                          now().text == "<=" || now().text == ">" || now().text == ">="))
        op = next().text;
      else if (skip_word("in")) op = "in";
      else if (is_word("not") && ahead().type == Tok::name && ahead().text == "in")
        next(), next(), op = "not in";
      else break;
      n->named.emplace_back(op, sum());
    }
    if (n->named.empty()) return std::move(n->kids[0]);
    return measured(std::move(n));
  }
  NodePtr binary(NodePtr (Parser::*part)(), std::initializer_list<const char*> ops) {
    NodePtr left = (this->*part)();
    while (std::any_of(ops.begin(), ops.end(), [&](const char* op) { return is_op(op); })) {
      const Token op = next();
      NodePtr right = (this->*part)();
      left = node(Op::binary, op.line, op.text, std::move(left), std::move(right));
    }
    return left;
  }
  NodePtr sum() { return binary(&Parser::concatenation, {"+", "-"}); }
  NodePtr concatenation() {
    NodePtr n = node(Op::concat, now().line, "", product());
    while (skip_op("~")) n->kids.push_back(product());
    if (n->kids.size() == 1) return std::move(n->kids[0]);
    return measured(std::move(n));
  }
  NodePtr product() { return binary(&Parser::power, {"*", "/", "//", "%"}); }
  NodePtr power() {
    NodePtr left = unary();
    while (is_op("**")) {
      const int line = next().line;
      NodePtr right = unary();
      // Jinja2 computes a constant base beforehand and loses its brackets: -1 ** n becomes -(1 **
      // n).
      Names base, exponent;
      add_names(*left, base);
      add_names(*right, exponent);
      if (left->op != Op::literal && base.empty() && !exponent.empty())
        fail("a computed constant to a variable power is not supported");
      left = node(Op::binary, line, "**", std::move(left), std::move(right));
    }
    return left;
  }
  NodePtr unary() { return unary(true); }
  NodePtr unary(bool with_filters) {
    const Level level(*this);
    NodePtr n;
    if (is_op("-") || is_op("+")) {
      const Token sign = next();
      n = node(sign.text == "-" ? Op::negate : Op::plus, sign.line, "", unary(false));
    } else {
      n = primary(false);
    }
    n = postfix(std::move(n));
    while (with_filters) {
      if (is_op("|")) n = filters(std::move(n), false);
      else if (is_word("is")) n = test(std::move(n));
      else if (is_op("(")) n = call(std::move(n));
      else break;
    }
    return n;
  }

  NodePtr primary(bool members) {
    const Token token = next();
    NodePtr n = node(Op::literal, token.line);
    n->value = token.value;
    if (token.type == Tok::name) {
      const std::string& word = token.text;
      if (word == "true" || word == "True" || word == "false" || word == "False") {
        n->value = boolean(word == "true" || word == "True");
      } else if (word == "none" || word == "None") {
        n->value = kNone;
      } else if (members && skip_op(".")) {
        n = node(Op::member, token.line, expect(Tok::name, "an attribute").text,
                 node(Op::name, token.line, word));
      } else {
        if (parameters_ && (word == "varargs" || word == "kwargs" || word == "caller") &&
            std::none_of(parameters_->begin(), parameters_->end(),
                         [&](const auto& parameter) { return parameter.first == word; }))
          fail(word + " inside a macro is not supported");
        n = node(Op::name, token.line, word);
      }
    } else if (token.type == Tok::string) {
      std::string text = token.text;
      while (is(Tok::string)) text += next().text;
      n->value = with_text(Kind::string, text);
    } else if (token.type == Tok::op && token.text == "(") {
      n = tuple(true, nullptr, true);
      expect_op(")");
    } else if (token.type == Tok::op && (token.text == "[" || token.text == "{")) {
      const bool list = token.text == "[";
      n->op = list ? Op::list : Op::dict;
      while (!is_op(list ? "]" : "}")) {
        if (!n->kids.empty()) expect_op(",");
        if (is_op(list ? "]" : "}")) break;
        n->kids.push_back(expression());
        if (list) continue;
        expect_op(":");
        n->kids.push_back(expression());
      }
      next();
    } else if (token.type != Tok::integer && token.type != Tok::real) {
      --at_;
      fail("unexpected " + (token.type == Tok::end ? "end of the template" : token.text));
    }
    return measured(std::move(n));
  }

  NodePtr postfix(NodePtr n) {
    while (true) {
      if (is_op(".")) {
        const int line = next().line;
        const Token name = next();
        if (name.type == Tok::name) {
          n = node(Op::attribute, line, name.text, std::move(n));
        } else if (name.type == Tok::integer) {
          NodePtr index = node(Op::literal, line);
          index->value = name.value;
          n = node(Op::item, line, "", std::move(n), std::move(index));
        } else {
          fail("expected a name after the dot");
        }
      } else if (is_op("[")) {
        const int line = next().line;
        Body keys;
        while (!is_op("]")) {
          if (!keys.empty()) expect_op(",");
          keys.push_back(subscript());
        }
        next();
        NodePtr key = keys.size() == 1 ? std::move(keys[0]) : node(Op::tuple, line);
        if (keys.size() != 1) key->kids = std::move(keys), key = measured(std::move(key));
        n = node(Op::item, line, "", std::move(n), std::move(key));
      } else if (is_op("(")) {
        n = call(std::move(n));
      } else {
        return n;
      }
    }
  }
  NodePtr subscript() {
    const int line = now().line;
    NodePtr parts[3];
    if (!is_op(":")) parts[0] = expression();
    if (!is_op(":")) return std::move(parts[0]);
    next();
    if (!is_op(":") && !is_op("]") && !is_op(",")) parts[1] = expression();
    if (skip_op(":") && !is_op("]") && !is_op(",")) parts[2] = expression();
    return node(Op::slice, line, "", std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
  }

  void arguments(Node& n) {
    expect_op("(");
    for (bool first = true; !is_op(")"); first = false) {
      if (!first) expect_op(",");
      if (is_op(")")) break;
      if (is_op("*") || is_op("**")) fail("*args and **kwargs are not supported");
      if (is(Tok::name) && ahead().type == Tok::op && ahead().text == "=") {
        const std::string key = next().text;
        if (std::any_of(n.named.begin(), n.named.end(),
                        [&](const auto& other) { return other.first == key; }))
          fail("the argument " + key + " is given twice");
        next();
        n.named.emplace_back(key, expression());
      } else {
        if (!n.named.empty()) fail("an argument without a name follows a named one");
        n.kids.push_back(expression());
      }
    }
    next();
  }
  NodePtr call(NodePtr callee) {
    NodePtr n = node(Op::call, now().line, "", std::move(callee));
    arguments(*n);
    return measured(std::move(n));
  }
  NodePtr filters(NodePtr n, bool inline_start) {
    while (inline_start || is_op("|")) {
      if (!inline_start) next();
      inline_start = false;
      const Token name = expect(Tok::name, "the name of a filter");
      n = node(Op::filter, name.line, name.text, std::move(n));
      if (is_op("(")) arguments(*n);
      n = measured(std::move(n));
    }
    return n;
  }
  NodePtr test(NodePtr value) {
    const int line = next().line;
    const bool negated = skip_word("not");
    NodePtr n =
        node(Op::test, line, expect(Tok::name, "the name of a test").text, std::move(value));
    if (is_op("(")) {
      arguments(*n);
    } else if (is(Tok::string) || is(Tok::integer) || is(Tok::real) || is_op("[") || is_op("{") ||
               (is(Tok::name) && !is_word("else") && !is_word("or") && !is_word("and"))) {
      if (is_word("is")) fail("tests with is cannot be chained");
      n->kids.push_back(postfix(primary(false)));
    }
    n = measured(std::move(n));
    return negated ? node(Op::invert, line, "", std::move(n)) : std::move(n);
  }

  std::string name_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int level_ = 0, loops_ = 0, scopes_ = 0;
  bool marks_generation_ = false;
  const std::vector<std::pair<std::string, NodePtr>>* parameters_ = nullptr;
};

}  // namespace

Program parse(const std::string& source, const std::string& name) {
  Parser parser(source, name);
  Program program{name, parser.run(), {}, false};
  program.hidden = hide_names(program.body, {});
  program.marks_generation = parser.marks_generation();
  program.words = parser.words();
  return program;
}

}  // namespace inoculum::jinja
