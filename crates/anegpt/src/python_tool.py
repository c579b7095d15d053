import ast

tree = ast.parse(SOURCE)
last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
names = {"__name__": "__main__"}
exec(compile(tree, "<call>", "exec"), names)
if last is not None:
    value = eval(compile(ast.Expression(last.value), "<call>", "eval"), names)
    if value is not None:
        print(value)
